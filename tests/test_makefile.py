"""Tests of the Makefile: one run from a program to its report."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .flows.commands.pair import CONFIG

ROOT = Path(__file__).parents[1]
FEW = "--num-data-sets 20"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(target, *settings, dry=False):
    installed = f"{sys.prefix}/.installed"
    said = subprocess.run(
        [
            "make", "--no-print-directory", "--old-file", installed,
            *(["--dry-run"] if dry else []), target, f"VENV={sys.prefix}", *settings,
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.mark.slow
def test_a_run_ends_with_its_report_and_a_second_run_makes_nothing(tmp_path):
    (tmp_path / "short.toml").write_text(CONFIG)
    folder = tmp_path / "run"
    settings = (
        f"RUN={folder}", "PROGRAM=normal_mean", f"CONFIG={tmp_path / 'short.toml'}",
        f"EVALUATE={FEW} --num-draws 200", f"DIAGNOSE={FEW}",
    )  # fmt: skip
    said = make("run", *settings)
    page = folder / "report.html"
    assert said.splitlines()[-1] == f"report: {page}"
    text = page.read_text()
    assert "not there" not in text
    assert "An unknown mean under a normal prior" in text
    before = {each: each.stat().st_mtime_ns for each in folder.rglob("*.*")}
    assert make("run", *settings).splitlines()[-1] == f"report: {page}"
    assert {each: each.stat().st_mtime_ns for each in folder.rglob("*.*")} == before
    # Other data: particles and page are made again, the flow is not.
    make("run", *settings, "OBSERVE=y=1.5")
    assert "Given y = 1.5." in page.read_text()
    weights = folder / "artifact" / "weights.safetensors"
    assert weights.stat().st_mtime_ns == before[weights]


def test_the_demo_trains_three_minutes_and_ends_with_its_report():
    said = make("demo", "RUN=runs/never-made", dry=True)
    assert "--budget 180s" in said
    assert "--kind auto" in said
    assert 'echo "report: runs/never-made/report.html"' in said.splitlines()[-1]
    assert not (ROOT / "runs" / "never-made").exists()


def test_a_program_with_discrete_latents_is_answered_without_a_flow(tmp_path):
    folder = tmp_path / "run"
    settings = (f"RUN={folder}", "PROGRAM=alarm", "NUM_PARTICLES=500")
    said = make("run", *settings)
    assert "all latents are discrete" in said
    assert "0.28417" in said
    assert said.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "0.284" in (folder / "report.html").read_text()
    before = {each: each.stat().st_mtime_ns for each in folder.rglob("*.*")}
    assert said.endswith(make("run", *settings))
    assert {each: each.stat().st_mtime_ns for each in folder.rglob("*.*")} == before


def test_a_run_takes_a_table_of_data_and_makes_an_answer_anew_for_another(tmp_path):
    program, table = tmp_path / "flips.daphne", tmp_path / "flips.csv"
    program.write_text(
        "(let [fair (sample (flip 0.5))]"
        " (foreach (count seen) [s seen] (observe (bernoulli (if fair 0.5 0.9)) s))"
        " fair)"
    )
    settings = (
        f"RUN={tmp_path / 'run'}", "PROGRAM=flips", f"PROGRAM_FILE={program}",
        f"DATA={table}", "NUM_PARTICLES=500",
    )  # fmt: skip
    for seen, odds in (((1, 1), 0.9**2), ((0, 0, 0), 0.1**3)):
        table.write_text("\n".join(["seen", *map(str, seen)]))
        chance = 0.5 ** len(seen) / (0.5 ** len(seen) + odds)
        assert f"true: {chance:.3g}" in make("run", *settings)
