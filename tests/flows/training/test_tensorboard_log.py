"""Tests of flows.training.tensorboard_log."""

import json

import pytest

from flows import optional
from flows.errors import FlowsError
from flows.training.tensorboard_log import check_board

from ..commands.pair import CONFIG, bad, good
from ..conftest import pair_document


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    (tmp_path / "train.toml").write_text(CONFIG)
    return tmp_path


def command(folder):
    return (
        "train", folder / "graph.json", "-o", folder / "artifact", "--engine", "torch",
        "--config", folder / "train.toml", "--tensorboard", folder / "board",
    )  # fmt: skip


def test_the_board_holds_the_values_of_the_log(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    good(*command(folder))
    read = EventAccumulator(str(folder / "board")).Reload()
    text = (folder / "artifact.training" / "log.jsonl").read_text()
    log = [json.loads(line) for line in text.splitlines()]
    found = [(e.step, e.value) for e in read.Scalars("certified/J")]
    wanted = [
        (report["iteration"], pytest.approx(report["certified"]["symmetric"]["mean"]))
        for report in log
        if report["certified"]
    ]
    assert len(wanted) > 1
    assert found == wanted
    assert [e.value for e in read.Scalars("solver/steps")] == [
        report["num_steps"] for report in log
    ]


def test_without_tensorboard_it_is_refused_before_any_work(folder, monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    said = bad(*command(folder))
    assert "tensorboard is not installed; expected pip install" in said
    assert not (folder / "artifact.training").exists()
    assert not (folder / "board").exists()


def test_a_file_in_the_place_of_the_board_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: name)
    (tmp_path / "board").write_text("precious")
    with pytest.raises(FlowsError, match="this is a file; expected a folder"):
        check_board(tmp_path / "board")
    check_board(tmp_path / "new")
