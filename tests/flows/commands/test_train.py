"""Tests of flows.commands.train."""

import json

import pytest

from ..conftest import pair_document
from .pair import CONFIG, good


@pytest.fixture
def folder(tmp_path):
    """A folder with a graph and a quick configuration."""
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    (tmp_path / "train.toml").write_text(CONFIG)
    return tmp_path


def train(folder, *options, caller=good):
    return caller(
        "train", folder / "graph.json", "-o", folder / "artifact",
        "--config", folder / "train.toml", *options,
    )  # fmt: skip


def log_of(folder):
    text = (folder / "artifact.training" / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("engine", ["torch", "adaptive", "paper"])
def test_every_engine_trains_to_an_artifact(folder, engine):
    said = json.loads(train(folder, "--engine", engine, "--json"))
    assert abs(said["metrics"]["best_j"]) < 0.1
    sizes = [report["ess"] for report in log_of(folder) if report["certified"]]
    assert len(sizes) > 1
    if engine == "paper":  # noisy densities say nothing about weights
        assert sizes == [None] * len(sizes)
    else:
        assert min(sizes) > 0.8
