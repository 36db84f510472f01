"""Tests of the Clojure reader in clj-programs/src against this package.

The oracle is torch in float64, for continuous flows with the same number of Runge-Kutta
steps; the reader shares no code with it. Skipped where Clojure or its library data.json
is missing.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .clojure_agreeing import KINDS, write_agreeing
from .clojure_refused import write_damaged, write_misfits
from .clojure_trained import write_groups, write_linked, write_trained

CLJ = Path(__file__).parents[2] / "clj-programs"
EARLIER = Path(__file__).parents[1] / "golden" / "artifacts"
JARS = [
    place
    for name in ("clojure.jar", "data.json.jar")
    if (place := Path("/usr/share/java") / name).is_file()
]


def test_the_clojure_reader_agrees_with_torch(tmp_path):
    if len(JARS) < 2 or shutil.which("java") is None:
        pytest.skip("Clojure is not installed: clojure, libdata-json-clojure")
    good = tmp_path / "good"
    write_agreeing(good)
    for each in EARLIER.glob("v*"):
        # Other kinds are refused, see `of_another_kind`; what is drawn beside a flow
        # needs log densities, see `write_linked`.
        manifest = json.loads((each / "artifact" / "manifest.json").read_text())
        is_of_kinds = manifest.get("flow", {}).get("kind", "cnf") in KINDS
        if is_of_kinds and "integrated" not in manifest:
            shutil.copytree(each / "artifact", tmp_path / "earlier" / each.name)
    write_damaged(good / "pair-cnf" / "artifact", tmp_path / "bad")
    unknown = EARLIER / "v3-structured-gaussian-count" / "artifact"
    shutil.copytree(unknown, tmp_path / "bad" / "structured_gaussian")
    for kind in KINDS:
        write_misfits(good / f"pair-{kind}" / "artifact", tmp_path)
    write_trained(tmp_path / "trained")
    write_groups(tmp_path / "trained" / "groups", tmp_path / "bad" / "out_of_order")
    write_linked(tmp_path / "trained" / "linked")
    path = os.pathsep.join([str(CLJ / "src"), str(CLJ / "test"), *map(str, JARS)])
    ran = subprocess.run(
        ["java", "-cp", path, "clojure.main", "-m", "daphne-flows.run-tests"],
        env={**os.environ, "DAPHNE_FLOWS_CASES": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-3000:]
    assert "0 failures, 0 errors" in ran.stdout
    assert "Reflection warning" not in ran.stderr
