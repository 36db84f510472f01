"""Tests of daphne-flows smc against the exact answer."""

import json

import numpy as np
import pytest
from scipy import stats

from flows.inference.particles import Particles

from .pair import bad, check_answer, doubted, good


@pytest.mark.parametrize(
    "options",
    [
        ("--most-moves", 2, "--leaps", 4),
        ("--move", "random-walk", "--scheme", "residual"),
        ("--proposal", "prior", "--move", "random-walk"),
        ("--proposal", "mixture", "--move", "random-walk"),
        ("--method", "sequential", "--proposal", "prior"),
        ("--method", "sequential", "--proposal", "mixture"),
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
    # every place that a line was moved through is a particle
    stored = Particles.load(tmp_path / "p" / "particles.npz")
    assert stored.num_particles % 1000 == 0


def test_runs_stand_side_by_side_and_their_spread_is_the_error(run, tmp_path):
    said = json.loads(
        good(
            "smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p",
            "--num-particles", 50, "--runs", 20, "--method", "sequential",
            "--proposal", "prior", "--json",
        )
    )  # fmt: skip
    check_answer(said)
    assert said["num_particles"] == 1000
    assert said["proposal"] == "prior, sequential SMC in 20 runs"
    assert Particles.load(tmp_path / "p" / "particles.npz").num_particles == 1000


def test_data_too_large_to_compute_with_are_named_from_a_flow_too(run, tmp_path):
    said = json.loads(
        doubted(
            "smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p", "--json",
            "--observe", "observe3=1e300", "--num-particles", 100,
        )
    )  # fmt: skip
    found = [each["what"] for each in said["cautions"]]
    assert "no draw of the prior gives a density to observe3 = 1e+300" in found


def test_errors_that_are_not_known_are_not_given(run, tmp_path):
    """Five particles have too few lines of descent, whatever they say."""
    arguments = (
        "smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p",
        "--num-particles", 5, "--method", "sequential", "--proposal", "prior",
    )  # fmt: skip
    said = json.loads(doubted(*arguments, "--json"))
    assert said["ok"] is False
    assert said["log_evidence_standard_error"] is None
    assert {each["mean_standard_error"] for each in said["latents"]} == {None}
    assert "standard errors are not known" in said["cautions"][-1]["meaning"]
    shown = doubted(*arguments)
    assert shown.startswith("these figures cannot be trusted: all particles descend")
    assert "nats, ± not known" in shown


def test_more_particles_than_are_held_are_refused(run, tmp_path):
    said = bad(
        "smc", run / "artifact", run / "graph.json", "-o", tmp_path / "p",
        "--num-particles", 500_000, "--runs", 3,
    )  # fmt: skip
    expected = "more particles in all than are held in memory; expected at most 1000000"
    assert said.startswith(f"--runs: {expected}; got 3 runs of 500000")
    assert list(tmp_path.iterdir()) == []


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


MIXED = """(let [z (sample (flip 0.3)) m (sample (normal (if z 2 -2) 1))]
  (observe (normal m 1) 1) m)"""


@pytest.mark.parametrize("options", [(), ("--move", "random-walk")])
def test_a_piped_program_is_tempered_from_its_prior_without_an_artifact(
    tmp_path, options
):
    said = json.loads(
        good(
            "smc", "-", "--proposal", "prior", "-o", tmp_path / "p", "--json",
            *options, input=MIXED,
        )
    )  # fmt: skip
    # A mixture of N(2, 2) and N(-2, 2) at 1.
    parts = np.log([0.3, 0.7]) + stats.norm([2, -2], np.sqrt(2)).logpdf(1)
    error = said["log_evidence_standard_error"]
    assert abs(said["log_evidence"] - np.logaddexp(*parts)) < 5 * error
    assert said["artifact"] is None
    assert said["model_name"] == "standard input"


def test_what_has_nothing_to_move_is_refused(tmp_path):
    said = bad(
        "smc", "-", "--proposal", "prior", "-o", tmp_path / "p",
        input="(let [k (sample (poisson 3))] (observe (normal k 1) 5) k)",
    )  # fmt: skip
    assert said.splitlines()[-1].startswith("smc: the model has no continuous latents")
