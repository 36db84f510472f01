"""Tests of flows.commands.inspect."""

import hashlib
import json

import pytest
from click.testing import CliRunner

from flows.cli import main

from ..saved_artifact import rewrite, save_pair


@pytest.fixture
def folder(tmp_path):
    save_pair(tmp_path / "artifact")
    return tmp_path / "artifact"


def call(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_json_says_everything(folder):
    result = call(folder, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    nodes = {node["name"]: node for node in found["model"]["nodes"]}
    assert nodes["sample2"]["link"] == "(normal (* 2 sample1) 1)"
    assert nodes["sample2"]["parents"] == ["sample1"]
    assert nodes["sample2"]["support"] == "real"
    assert nodes["observe3"]["observed"] is True
    assert set(found["inverse"]["latents"]) == {"sample1", "sample2"}
    shape, columns = found["flow"]["config"], found["columns"]
    assert (shape["layers"], shape["hidden"]) == (3, 4)
    assert found["structure"]["nuisances"] == [1, 1]
    assert (columns["state"], columns["observed"]) == (4, 2)
    assert found["training"] == {
        "seed": 3,
        "config": {"a": {"b": 1}},
        "metrics": {"j": 0.125},
    }
    assert found["solver"]["method"] == "dopri5"
    weights = (folder / "weights.safetensors").read_bytes()
    assert found["files"]["weights.safetensors"] == {
        "bytes": len(weights),
        "digest": "sha256:" + hashlib.sha256(weights).hexdigest(),
    }


def test_parameters_are_counted(folder):
    parameters = json.loads(call(folder, "--json").stdout)["parameters"]
    # Two latents of two columns and four hidden units each, the second reads the first:
    # 8 + 16, 16 + 32 and 8 + 16 weights. The first reads both data, the second one of
    # them: 4 * 3. Four vectors over 8 + 8 + 4 outputs.
    assert parameters["trained"] == 24 + 48 + 24 + 12 + 80
    # Six vectors of the state or of the data, then a slope of the second latent on the
    # first and three on data; nuisances read the data too, by form: 2 * 3.
    assert parameters["normalisation"] == 4 * 4 + 2 * 2 + 1 + 2 * 3


def test_the_table_names_every_part(folder):
    result = call(folder)
    assert result.exit_code == 0, result.output
    for words in (
        "model",
        "(normal (* 2 sample1) 1)",
        "inverse, in sampling order",
        "what the flow reads",
        "shape: layers",
        "dopri5",
        "trained: j",
        "setting: a.b",
        "weights.safetensors",
        "golden.json",
        "checksum",
    ):
        assert words in result.stdout


def test_names_are_shown_as_they_are(folder):
    def change(manifest):
        manifest["model"]["nodes"][0]["label"] = "[red]a[/red]"

    rewrite(folder, change)
    assert "[red]a[/red]" in call(folder).stdout


def test_a_damaged_artifact_is_refused_in_one_sentence(folder):
    (folder / "golden.json").write_text("{}")
    result = call(folder, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["ok"] is False
    assert "cut short" in result.stderr
    assert call(folder / "nothing").exit_code == 2
