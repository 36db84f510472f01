"""Tests of daphne-flows smc against the exact answer."""

import json

import pytest

from flows.inference.particle_file import load_particles

from .pair import bad, check_answer, good


@pytest.mark.parametrize(
    "options",
    [
        ("--most-moves", 2, "--leaps", 4),
        ("--move", "random-walk", "--scheme", "residual"),
        ("--proposal", "prior", "--move", "random-walk"),
        ("--proposal", "mixture", "--move", "random-walk"),
        ("--method", "sequential", "--proposal", "prior"),
        ("--method", "sequential", "--scheme", "stratified"),
    ],
)
def test_every_method_gives_the_exact_answer(run, tmp_path, options):
    said = json.loads(
        good(
            "smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p",
            "--num-particles", 1000, "--json", *options,
        )
    )  # fmt: skip
    check_answer(said)
    assert json.loads((tmp_path / "p" / "summary.json").read_text()) == said
    assert load_particles(tmp_path / "p" / "particles.npz").num_particles == 1000


def test_data_far_from_the_model_get_the_answer_and_a_warning(run, tmp_path):
    said = json.loads(
        good(
            "smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p",
            "--observe", "observe3=40", "--observe", "observe4=10",
            "--num-particles", 1000, "--leaps", 8, "--json",
        )
    )  # fmt: skip
    check_answer(said, 40.0, 10.0)
    assert "observe3 = 40 lies" in said["cautions"][0]["what"]


def test_wrong_settings_are_refused(run, tmp_path):
    for options in (("--scheme", "lottery"), ("--num-particles", 1)):
        bad("smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p", *options)
    assert list(tmp_path.iterdir()) == []
