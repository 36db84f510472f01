"""Tests of flows.commands.train."""

import json
import tomllib

import pytest

from ..conftest import pair_document
from .pair import CONFIG, bad, good


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


def test_nuisances_are_given_per_latent_and_shown_by_inspect(folder):
    table = "\n[augment]\ndefault = 1\nsample2 = 3\n"
    (folder / "train.toml").write_text(CONFIG + table)
    train(folder)
    found = json.loads(good("inspect", folder / "artifact", "--json"))
    counts = dict(
        zip(
            found["inverse"]["latents"], found["architecture"]["auxiliary"], strict=True
        )
    )
    assert counts == {"sample1": 1, "sample2": 3}
    assert found["architecture"]["auxiliary_columns"] == 4
    assert "nuisances" in good("inspect", folder / "artifact")
    written = (folder / "artifact.training" / "config.toml").read_text()
    assert tomllib.loads(written)["augment"] == {"default": 1, "sample2": 3}
    good(
        "sample", folder / "artifact", folder / "graph.json", "-o", folder / "p",
        "--num-particles", 100,
    )  # fmt: skip


def test_augment_on_the_command_line_replaces_the_configurations(folder):
    (folder / "train.toml").write_text("augment = 5\n" + CONFIG)
    train(folder, "--augment", 0)
    manifest = json.loads((folder / "artifact" / "manifest.json").read_text())
    assert manifest["architecture"]["auxiliary"] == [0, 0]
    assert manifest["training"]["config"]["augment"] == 0


def test_nuisances_of_no_latent_are_refused_before_any_file(folder):
    (folder / "train.toml").write_text(CONFIG + "\n[augment]\nz9 = 3\n")
    said = train(folder, caller=bad)
    assert "augment, z9: no latent of this name" in said
    assert not (folder / "artifact.training").exists()
