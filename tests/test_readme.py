"""Tests that the examples of the READMEs and of `help(flows)` run as written."""

import re
from pathlib import Path

import numpy as np
import pytest

import flows

ROOT = Path(__file__).parents[1]
PROGRAM = """
; linear and normal, so that its flow is exact before training
(let [z (sample (normal 0 5))
      x0 (observe (normal (* 2 z) 1) -9.0)
      x1 (observe (normal z 0.5) 0.5)]
  z)
"""


def blocks(path):
    """Return what stands between fences of Python."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.M | re.S)


def indented(text):
    """Return the lines of code of an indented example."""
    first = text.index("    import flows\n")
    return re.sub(r"^    ", "", text[first : text.index("\n- ", first)], flags=re.M)


def first_state():
    """Return the mean of the first state of `state_space`, the last data other ones."""
    y = np.array([2.0, 2.05, 2.11, 2.02, 2.19, 2.31, 2.24, 2.40, 2.38, 2.3])
    steps = np.diff(np.eye(10), axis=0)
    precision = 100 * np.eye(10) + 100 * steps.T @ steps
    precision[0, 0] += 1 / 25
    return np.linalg.solve(precision, 100 * y)[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the examples name, to work in."""
    (tmp_path / "model.daphne").write_text(PROGRAM)
    (tmp_path / "data.csv").write_text("t\n1\n")
    (tmp_path / "clj-programs").symlink_to(ROOT / "clj-programs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "flows/README.md", "help(flows)"])
def test_the_examples_run_in_their_order(name, folder):
    is_help = name == "help(flows)"
    code = [indented(flows.__doc__)] if is_help else blocks(ROOT / name)
    names = {}
    for block in code:
        exec(block.replace('"10m"', '"2s"'), names)
    if name == "README.md":
        mean = first_state()
    else:
        x0, x1 = (-9.7, 0.85) if is_help else (-9.0, 0.5)
        mean = (2 * x0 + 4 * x1) / (1 / 25 + 4 + 4)  # precisions of z, x0 and x1
    particles = names.get("particles") or flows.Particles.merge(names["batches"])
    error = float(particles.mean_standard_error()[0])
    assert abs(float(particles.mean()[0]) - mean) < 5 * error
