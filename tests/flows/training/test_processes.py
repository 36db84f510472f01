"""Tests of flows.training.processes: two local processes against one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from flows.cli import main as flows
from flows.training.processes import ALONE, joined_ranks

from ..commands.pair import CONFIG
from ..conftest import pair_document
from ..test_cli import good, good_json
from .ranked_fit import fitted

ROOT = Path(__file__).parents[3]
TORCHRUN = (
    sys.executable, "-m", "torch.distributed.run", "--standalone",
    "--nproc-per-node", "2",
)  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def torchrun(*arguments):
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_a_process_started_alone_is_the_only_rank():
    with joined_ranks() as ranks:
        assert ranks is ALONE
        value = torch.ones(2)
        ranks.sum_(value)
        assert value.tolist() == [1.0, 1.0]
        assert ranks.shared(lambda: 3) == 3


@pytest.mark.slow
def test_two_processes_give_the_run_of_one_up_to_the_order_of_additions(tmp_path):
    """Weights within 1e-8 after 40 iterations in float64, and equal on both ranks."""
    done = torchrun("-m", "tests.flows.training.ranked_fit", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["0", "1", "done", "done"]
    tensors, reports = fitted(ALONE)
    ranked = [
        safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)
    ]
    for name, tensor in tensors.items():
        assert torch.equal(ranked[0][name], ranked[1][name])
        torch.testing.assert_close(ranked[0][name], tensor, rtol=0, atol=1e-8)
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert repr(both[0]) == repr(both[1])
    assert len(both[0]) == len(reports)
    for one, other in zip(both[0], reports, strict=True):
        assert one["status"] == other["status"]
        assert one["iteration"] == other["iteration"]
        if one["iteration"]:
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-7, nan_ok=True)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_process_takes_all_back(tmp_path):
    done = torchrun("-m", "tests.flows.training.ranked_fit", tmp_path, "--nan")
    assert done.returncode == 0, done.stderr
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert repr(both[0]) == repr(both[1])
    assert sum("rolled back" in report["status"] for report in both[0]) == 1


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    (tmp_path / "train.toml").write_text(CONFIG)
    return tmp_path


def command(folder, name):
    return (
        "-m", "flows", "train", folder / "graph.json", "-o", folder / name,
        "--config", folder / "train.toml", "--engine", "torch",
    )  # fmt: skip


@pytest.mark.slow
def test_only_rank_0_of_the_command_prints_and_writes(folder):
    done = torchrun(*command(folder, "two"), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)  # one value, of one process
    assert said["metrics"]["iterations"] == 60
    good(flows, *command(folder, "one")[2:])
    one, two = (
        safetensors.torch.load_file(folder / name / "weights.safetensors")
        for name in ("one", "two")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=2e-3)
    # a finished run of two processes, continued by one
    again = good_json(flows, *command(folder, "two")[2:], "--resume")
    assert again["metrics"]["iterations"] == 60


@pytest.mark.slow
def test_an_interrupted_run_of_two_processes_is_continued(folder):
    config = CONFIG.replace("max_iterations = 60", "max_iterations = 500")
    (folder / "train.toml").write_text(config)
    log = folder / "two.training" / "log.jsonl"
    running = subprocess.Popen(
        [*TORCHRUN, *map(str, command(folder, "two"))],
        cwd=ROOT, env=ENVIRONMENT, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while time.monotonic() < end and not (
        log.exists() and log.read_text().count("\n") >= 2  # one is before training
    ):
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as the terminal does on Ctrl-C
    running.communicate(timeout=120)
    assert running.returncode != 0
    assert not (folder / "two").exists()
    before = [json.loads(line)["iteration"] for line in log.read_text().splitlines()]
    assert 0 < before[-1] < 500
    (folder / "train.toml").write_text(config)
    done = torchrun(*command(folder, "two"), "--resume")
    assert done.returncode == 0, done.stderr
    assert "starting anew" not in done.stderr
    after = [json.loads(line)["iteration"] for line in log.read_text().splitlines()]
    assert after[: len(before) - 1] == before[:-1]
    assert after[-1] == 500


@pytest.mark.slow
def test_bad_input_names_its_process_and_ends_the_run(folder):
    (folder / "train.toml").write_text("batch_size = 1\nfinal_batch_size = 1\n")
    done = torchrun(*command(folder, "two"))
    assert done.returncode != 0
    sentence = "batch_size: fewer rows than processes; expected at least 2; got 1"
    assert sentence in done.stderr
    assert not (folder / "two").exists()
