"""Tests of daphne-flows diagnose."""

import json

import pytest

from daphne_bridge.compiler import compile_program

from .pair import bad, good


def test_a_diagnosis_is_written_whole(run, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "d"
    arguments = ("diagnose", run / "artifact", run / "graph.json", "-o", out)
    said = json.loads(good(*arguments, "--num-data-sets", 60, "--json"))
    assert json.loads((out / "diagnosis.json").read_text()) == said
    assert said["is_calibrated"]
    assert len(said["ess_fractions"]) == 60
    for name in (
        "ranks", "weighted-ranks", "marginals", "coverage", "weakness", "predictive",
        "ess", "k-hat",
    ):  # fmt: skip
        picture = (out / f"{name}.svg").read_text()
        assert picture.startswith("<svg")
        node = {"predictive": "observe3", "ess": "ESS", "k-hat": "k-hat"}
        assert node.get(name, "sample1") in picture
    assert "inside the 99 % band" in good(*arguments, "--num-data-sets", 60)


def test_new_data_are_predicted_given_other_data(run, tmp_path):
    arguments = ("diagnose", run / "artifact", run / "graph.json", "-o", tmp_path / "d")
    options = ("--num-data-sets", 2, "--observe", "observe3=30", "--json")
    said = json.loads(good(*arguments, *options))
    first, second = said["predictive"]["numbers"]
    # b ~ N(2 a, 1), data y = 1.5 of b: a = 30 contradicts it, and y is missed.
    assert (first["name"], first["observed"]) == ("observe3", 30.0)
    assert first["level"] > 0.99
    assert second["level"] < 0.05
    assert said["predictive"]["num_draws"] == 10_000


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "mine").write_text("precious")
    bad(
        "diagnose", run / "artifact", run / "graph.json", "-o", tmp_path,
        "--num-data-sets", 2,
    )  # fmt: skip
    assert (tmp_path / "mine").read_text() == "precious"


def test_the_part_of_each_node_is_left_out_beside_discrete_latents(tmp_path):
    pytest.importorskip("matplotlib")
    program = tmp_path / "graph.json"
    text = (
        "(let [k (sample (flip 0.5)) x (sample (normal (if k 1 -1) 1))]"
        " (observe (normal x 1) 0.5) [k x])"
    )
    program.write_text(json.dumps(compile_program(text, "mixed").document))
    artifact, out = tmp_path / "artifact", tmp_path / "diagnosis"
    train = ("--kind", "structured-gaussian", "--budget", "1s")
    good("train", program, "-o", artifact, *train)
    sets = ("--num-data-sets", 20, "--json")
    said = json.loads(good("diagnose", artifact, program, "-o", out, *sets))
    assert said["nodes"] == []
    assert min(said["ess_fractions"]) > 0.999
    assert not (out / "weakness.svg").exists()
    good("report", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Expected coverage" in page
    assert "What each node costs" not in page
