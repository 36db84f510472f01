"""Tests of flows.commands.refine."""

import json

import pytest

from .pair import bad, doubted, exact, good

FEW = """
max_iterations = 30
report_every = 15
num_certifications = 1
certify_draws = 200
normalisation_draws = 2000
augment = 0
[flow]
layers = 2
hidden = 4
"""


def refine(folder, *places, caller=good):
    (folder / "few.toml").write_text(FEW)
    return caller(
        "refine", *places, "-o", folder / "bent", "--config", folder / "few.toml",
        "--engine", "torch", "--json",
    )  # fmt: skip


def test_an_artifact_is_bent_to_data_and_sampled_there(run, tmp_path):
    graph = run / "graph.json"
    other = ("--observe", "observe3=0.9")
    said = json.loads(refine(tmp_path, run / "artifact", graph, *other))
    assert said["ok"]
    assert said["metrics"]["ess_fraction"] > 0.9
    drawn = json.loads(
        good(
            "sample", tmp_path / "bent", graph, "-o", tmp_path / "drawn", *other,
            "--json",
        )
    )  # fmt: skip
    _, evidence = exact(x=0.9)
    error = drawn["log_evidence_standard_error"]
    assert drawn["log_evidence"] == pytest.approx(evidence, abs=5 * error)
    assert not any("refined" in c["what"] for c in drawn["cautions"])
    told = json.loads(good("inspect", tmp_path / "bent", "--json"))
    assert told["data"] == [0.9, 1.5]
    assert "refined for" in good("inspect", tmp_path / "bent")


def test_the_artifact_that_is_refined_is_not_overwritten(run, tmp_path):
    (tmp_path / "bent").symlink_to(run / "artifact")
    said = bad("refine", run / "artifact", run / "graph.json", "-o", tmp_path / "bent")
    assert "bent: this is the artifact to refine, which would be lost; expected" in said


def test_sampling_at_other_data_says_what_the_flow_was_refined_for(run, tmp_path):
    graph = run / "graph.json"
    refine(tmp_path, graph)
    drawn = json.loads(
        good(
            "sample", tmp_path / "bent", graph, "-o", tmp_path / "drawn",
            "--observe", "observe3=0.8", "--json",
        )
    )  # fmt: skip
    assert any("other data" in c["what"] for c in drawn["cautions"])


def test_a_program_with_its_data_is_refined_from_nothing(tmp_path):
    (tmp_path / "m.daphne").write_text(
        "(let [m (sample (normal 0 10))] (foreach (count y) [v y]"
        " (observe (normal m 1) v)) m)"
    )
    (tmp_path / "m.csv").write_text("y\n1.5\n2.5\n2.0\n")
    said = json.loads(
        refine(tmp_path, tmp_path / "m.daphne", "--data", tmp_path / "m.csv")
    )
    assert said["metrics"]["ess_fraction"] > 0.95


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_what_looks_at_every_data_set_refuses_a_flow_of_one(run, tmp_path, command):
    refine(tmp_path, run / "graph.json")
    options = ("-o", tmp_path / "out") if command == "diagnose" else ()
    said = bad(command, tmp_path / "bent", run / "graph.json", *options)
    assert "of one data set, so it says nothing of others" in said


def test_a_flow_not_to_be_trusted_ends_with_its_own_code(tmp_path):
    """Two sharp modes are more than so few iterations can tell apart."""
    (tmp_path / "t.daphne").write_text(
        "(let [x (sample (normal 0 1))] (observe (normal (* x x) 0.001) 2) x)"
    )
    said = json.loads(refine(tmp_path, tmp_path / "t.daphne", caller=doubted))
    assert not said["ok"]
    assert "effective sample size" in " ".join(said["metrics"]["cautions"])


def test_a_budget_that_is_no_duration_is_refused_before_any_progress(run, tmp_path):
    of = (run / "artifact", run / "graph.json", "-o", tmp_path / "bent")
    said = bad("refine", *of, "--budget", "nan").strip()
    assert said == "budget: not a duration; expected 90s, 10m or 1.5h; got 'nan'"
