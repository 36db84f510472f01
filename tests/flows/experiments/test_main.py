"""Tests of the command that makes the figures."""

import json

import pytest
from click.testing import CliRunner

from .programs import PROGRAMS

pytest.importorskip("matplotlib")
command = pytest.importorskip("flows.experiments.__main__")


def test_a_figure_leaves_a_picture_its_numbers_and_the_table(tmp_path):
    output = tmp_path / "figures"
    arguments = ["--length", "fast", "-o", str(output), "--programs", str(PROGRAMS)]
    result = CliRunner().invoke(command.main, [*arguments, "--only", "fig8"])
    assert result.exit_code == 0, result.output
    assert (output / "fig8.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((output / "fig8.json").read_text())
    assert numbers["length"] == "fast"
    assert len(numbers["adjacency"]) == 81
    assert "| claim | paper | here |" in (output / "claims.md").read_text()


def test_a_missing_file_of_patches_is_bad_input(tmp_path):
    arguments = ["--length", "fast", "-o", str(tmp_path), "--programs", str(PROGRAMS)]
    missing = str(tmp_path / "none.npz")
    result = CliRunner().invoke(
        command.main, [*arguments, "--only", "fig9", "--latents-from", missing]
    )
    assert result.exit_code == 2
    assert "no such file" in result.output


def test_wrong_usage_is_said_in_one_sentence():
    result = CliRunner().invoke(command.main, ["--only", "fig99"])
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("python -m flows.experiments: invalid value for '--only'")
    assert line.endswith(
        "expected the usage that python -m flows.experiments --help shows"
    )
