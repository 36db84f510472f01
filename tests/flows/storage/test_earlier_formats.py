"""Tests of flows.storage.artifact on artifacts that were written long ago.

The oracle is what the code that wrote them drew, kept in `tests/golden/artifacts`.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flows.cli import main
from flows.storage.artifact import Artifact

EARLIER = sorted((Path(__file__).parents[2] / "golden" / "artifacts").glob("v*"))


@pytest.mark.parametrize("folder", EARLIER, ids=lambda folder: folder.name)
def test_artifacts_of_earlier_formats_give_the_particles_they_gave(folder, tmp_path):
    expected = json.loads((folder / "expected.json").read_text())
    result = CliRunner().invoke(
        main,
        [
            "sample", str(folder / "artifact"), str(folder / "graph.json"),
            "-o", str(tmp_path / "out"), "--seed", str(expected["seed"]),
            "--num-particles", str(expected["num_particles"]), "--json",
        ],
    )  # fmt: skip
    summary = json.loads(result.stdout)
    # Solved at a tolerance of 1e-6, whose steps another processor may choose otherwise.
    assert result.exit_code == (0 if summary["ok"] else 3), result.output
    for name in ("log_evidence", "ess"):
        assert summary[name] == pytest.approx(expected[name], rel=1e-5)
    means = {each["name"]: each["mean"] for each in summary["latents"]}
    assert means == pytest.approx(expected["means"], rel=1e-5)
    with np.load(tmp_path / "out" / "particles.npz") as file:
        particles = dict(file)
    for name, values in {
        **expected["first_latents"],
        "log_weights": expected["first_log_weights"],
    }.items():
        found = particles[name][: len(values)].tolist()
        assert found == pytest.approx(values, abs=1e-5)


def test_all_formats_are_here():
    versions = [
        Artifact.load(folder / "artifact").manifest.version for folder in EARLIER
    ]
    assert {*versions} == {1, 2, 3}
