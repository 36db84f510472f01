"""Tests of daphne_bridge.clojure, with a small stand-in for the original."""

import json

import pytest

from daphne_bridge.clojure import daphne_command, run_daphne
from daphne_bridge.errors import DaphneError


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "daphne"
    folder.mkdir()
    (folder / "deps.edn").write_text("{}")
    (folder / "project.clj").write_text("")
    return folder


def test_the_tool_of_the_machine_is_chosen(checkout):
    assert daphne_command(checkout, lambda tool: tool) == ("clj", "-M:run")
    only_lein = {"lein": "/usr/bin/lein"}.get
    assert daphne_command(checkout, only_lein) == ("lein", "run")


def test_a_machine_without_tools_and_a_wrong_folder_are_clear_errors(
    checkout, tmp_path
):
    with pytest.raises(DaphneError, match="expected clj or lein on the PATH"):
        daphne_command(checkout, lambda tool: None)
    with pytest.raises(DaphneError, match="no such folder"):
        daphne_command(tmp_path / "nowhere")
    with pytest.raises(DaphneError, match="this is no checkout of Daphne"):
        daphne_command(tmp_path)


def stand_in(tmp_path, body):
    script = tmp_path / "daphne.sh"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return [str(script)]


def test_the_document_that_daphne_writes_arrives_whole(checkout, tmp_path):
    program = tmp_path / "p.daphne"
    program.write_text("(sample (normal 0 1))")
    output = tmp_path / "graph.json"
    command = stand_in(
        tmp_path, 'test "$1 $2 $4" = "graph -i -o" && echo "[{}]" > "$5"'
    )
    run_daphne(checkout, program, output, command=command)
    assert json.loads(output.read_text()) == [{}]


def test_a_failure_of_daphne_is_told_and_leaves_no_file(checkout, tmp_path):
    program = tmp_path / "p.daphne"
    program.write_text("(")
    output = tmp_path / "graph.json"
    command = stand_in(tmp_path, "echo 'Cannot read symbolic expressions' >&2; exit 1")
    with pytest.raises(DaphneError, match=r"exit status 1.*Cannot read symbolic"):
        run_daphne(checkout, program, output, command=command)
    assert not output.exists()
    with pytest.raises(DaphneError, match="ran longer than"):
        run_daphne(
            checkout,
            program,
            output,
            command=stand_in(tmp_path, "exec sleep 20"),
            timeout_seconds=0.2,
        )
    with pytest.raises(DaphneError, match="no such file"):
        run_daphne(checkout, tmp_path / "none.daphne", output)
