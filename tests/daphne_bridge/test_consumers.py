"""Tests of daphne_bridge.consumers."""

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from daphne_bridge import consumers
from daphne_bridge.cli import main

DECLARED = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())[
    "project"
]["entry-points"][consumers.CHECKS]


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """What an installation declares, whatever stands beside these tests."""
    points = [EntryPoint(*item, consumers.CHECKS) for item in DECLARED.items()]
    monkeypatch.setattr(consumers, "entry_points", lambda group: points)


def checked(text, tmp_path, *options):
    program, graph = tmp_path / "p.daphne", tmp_path / "p.json"
    program.write_text(text)
    run = CliRunner().invoke
    assert run(main, ["compile", str(program), "-o", str(graph)]).exit_code == 0
    return run(main, ["check", str(graph), *options])


def test_check_says_what_is_done_with_discrete_latents(tmp_path):
    text = """
(let [k (sample (poisson 3)) z (sample (flip 0.5)) x (sample (normal k 1))]
  (observe (normal (if z x 0) 1) 2.0)
  x)"""
    assert "summed out: k, z\ntruncated: k\n" in checked(text, tmp_path).stdout
    said = json.loads(checked(text, tmp_path, "--json").stdout)
    assert (said["summed_out"], said["sampled"]) == (["k", "z"], [])
    assert said["truncated"] == ["k"]


def test_check_says_what_is_integrated_out(tmp_path):
    text = """
(let [s (sample (gamma 2 2)) a (foreach 8 [] (sample (normal 0 s)))]
  (observe (normal (reduce + a) 1) 2.0)
  s)"""
    labels = [f"a[{n}]" for n in range(8)]
    assert f"integrated: {', '.join(labels)}\n" in checked(text, tmp_path).stdout
    assert json.loads(checked(text, tmp_path, "--json").stdout)["integrated"] == labels


def test_check_refuses_what_a_consumer_refuses(tmp_path):
    text = "(let [x (sample (normal 0 1))] (observe (dirac x) 1.5) x)"
    result = checked(text, tmp_path)
    assert result.exit_code == 2
    assert "dirac of a continuous value has no density" in result.stderr


def test_a_graph_is_checked_without_any_consumer(tmp_path, monkeypatch):
    monkeypatch.setattr(consumers, "entry_points", lambda group: [])
    result = checked("(let [k (sample (flip 0.5))] k)", tmp_path)
    assert result.exit_code == 0
    assert "summed out" not in result.stdout
