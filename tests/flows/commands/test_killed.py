"""Tests that a killed command leaves its old result or the new one."""

import json
import multiprocessing
import random
import shutil
import sys
import time

import pytest

from daphne_bridge.inversion.document import dump_inverse
from daphne_bridge.inversion.nami import invert
from flows.cli import main
from flows.commands.model_argument import load_any

pytest.importorskip("matplotlib")

KILLS = 6


def call(arguments):
    sys.argv = ["daphne-flows", *map(str, arguments)]
    main()


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flows.cli", __name__])
    return context


def content(path):
    """What a result holds, but for the speed of drawing, which no two runs share."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = {}
    for each in files:
        found[each.name] = each.read_bytes()
        if each.suffix == ".json":
            plain = json.loads(found[each.name])
            for proposal in ("flow", "prior"):
                plain.get(proposal, {}).pop("ess_per_cpu_second", None)
            found[each.name] = plain
    return found


COMMANDS = {
    "sample": ("--num-particles", 20_000, "--format", "csv", "--draws", 50, "--seed"),
    "smc": ("--num-particles", 200, "--seed"),
    "diagnose": ("--num-data-sets", 10, "--seed"),
    "evaluate": ("--num-draws", 300, "--num-data-sets", 5, "--seed"),
    "report": ("--program",),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_leaves_the_old_result_or_the_new_one(
    run, tmp_path, processes, command
):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    dump_inverse(invert(load_any(folder / "graph.json").graph), folder / "inverse.json")
    for number in "01":
        (tmp_path / number).write_text(f"program {number}")
    out = tmp_path / {"evaluate": "out.json", "report": "out.html"}.get(command, "out")
    files = [folder] if command == "report" else [
        folder / "artifact", folder / "graph.json"
    ]  # fmt: skip

    def start(number):
        last = tmp_path / str(number) if command == "report" else number
        arguments = (command, *files, "-o", out, *COMMANDS[command], last)
        process = processes.Process(target=call, args=(arguments,))
        process.start()
        return process

    wanted = {}
    for number in (1, 0):
        begin = time.monotonic()
        process = start(number)
        process.join()
        seconds = time.monotonic() - begin
        assert process.exitcode == 0
        wanted[number] = content(out)
    assert wanted[0] != wanted[1]
    rest = random.Random(1)
    num_killed = 0
    for _ in range(KILLS):
        process = start(1)
        process.join(timeout=seconds * rest.uniform(0.3, 1.1))
        process.kill()
        process.join()
        num_killed += process.exitcode != 0
        assert content(out) in wanted.values()
    assert num_killed
    # The next run takes the leftovers away.
    assert start(0).join() is None
    assert content(out) == wanted[0]
    assert {each.name for each in tmp_path.iterdir()} == {"run", "0", "1", out.name}
