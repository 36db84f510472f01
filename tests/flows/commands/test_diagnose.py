"""Tests of daphne-flows diagnose."""

import json

import pytest

from .pair import bad, good


def test_a_diagnosis_is_written_whole(run, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "d"
    arguments = ("diagnose", run / "artifact", run / "graph.json", "-o", out)
    said = json.loads(good(*arguments, "--num-data-sets", 60, "--json"))
    assert json.loads((out / "diagnosis.json").read_text()) == said
    assert said["is_calibrated"]
    assert len(said["ess_fractions"]) == 60
    for name in ("ranks", "coverage", "weakness", "ess", "k-hat"):
        picture = (out / f"{name}.svg").read_text()
        assert picture.startswith("<svg")
        assert "sample1" in picture or name in ("ess", "k-hat")
    assert "inside the 99 % band" in good(*arguments, "--num-data-sets", 60)


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "mine").write_text("precious")
    bad(
        "diagnose", run / "artifact", run / "graph.json", "-o", tmp_path,
        "--num-data-sets", 2,
    )  # fmt: skip
    assert (tmp_path / "mine").read_text() == "precious"
