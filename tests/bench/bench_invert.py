"""This script times inversion as graphs grow: seconds, memory, edges.

    python tests/bench/bench_invert.py [--quick] [--repeats N]

Each row is a process of its own, so that its peak memory is its own. Seconds are those
of one core that the process had (inversion uses one), median of the repeats, with the
spread from the fastest to the slowest; the wall's seconds are a median too.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from daphne_bridge.inversion.document import format_inverse  # noqa: E402
from daphne_bridge.inversion.elimination_plans import PUBLISHED, Plan  # noqa: E402
from daphne_bridge.inversion.nami import invert_dag  # noqa: E402
from tests.daphne_bridge.dags import (  # noqa: E402
    Example,
    binary_tree,
    convolution,
    groups,
    regression,
    state_space,
)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    plans: str
    nodes: int
    edges: int
    mode: str
    stopped: int
    seconds: float
    fastest: float
    slowest: float
    wall_seconds: float
    peak_mib: float
    file_kib: float


Case = tuple[str, Callable[[], Example], tuple[Plan, ...]]

CASES: list[Case] = [
    ("state space, 250 steps", lambda: state_space(250), ()),
    ("state space, 1000 steps", lambda: state_space(1_000), ()),
    ("state space, 5000 steps", lambda: state_space(5_000), ()),
    ("state space, 250 steps", lambda: state_space(250), PUBLISHED),
    ("state space, 1000 steps", lambda: state_space(1_000), PUBLISHED),
    ("state space, 5000 steps", lambda: state_space(5_000), PUBLISHED),
    ("binary tree, 1250 nodes", lambda: binary_tree(1_250), ()),
    ("binary tree, 5000 nodes", lambda: binary_tree(5_000), ()),
    (
        "convolution 9x9, stride 1",
        lambda: convolution(9, 1, has_filter=True),
        (),
    ),
    (
        "convolution 28x28, stride 2",
        lambda: convolution(28, 2, has_filter=True),
        (),
    ),
    (
        "convolution 28x28, stride 1",
        lambda: convolution(28, 1, has_filter=True),
        (),
    ),
    (
        "convolution 28x28, stride 1, known filter",
        lambda: convolution(28, 1, has_filter=False),
        (),
    ),
    ("5000 groups", lambda: groups(5_000), ()),
    ("regression, 10000 points", lambda: regression(10_000), ()),
]
QUICK = 300
"""Node count up to which a case runs with --quick."""


def measure(case: int, repeats: int) -> Row:
    """Invert one graph a few times and say what it took."""
    name, build, plans = CASES[case]
    example = build()
    seconds = []
    wall = []
    for _ in range(repeats):
        start, wall_start = time.process_time(), time.perf_counter()
        inverse = invert_dag(
            example.names, example.parents, example.observed, plans=plans
        )
        seconds.append(time.process_time() - start)
        wall.append(time.perf_counter() - wall_start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(
        name,
        "published" if plans else "all",
        len(example.names),
        inverse.num_edges,
        inverse.mode,
        sum(candidate.edges is None for candidate in inverse.candidates),
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        statistics.median(wall),
        peak,
        len(format_inverse(inverse)) / 1024,
    )


def main() -> None:
    """Measure all cases, print the table, write runs/bench/invert.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small graphs only")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(
        "| graph | nodes | plans | edges | mode | stopped | seconds | spread | wall "
        "| peak MiB | inverse.json KiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    context = multiprocessing.get_context("spawn")
    for case, (_, build, _) in enumerate(CASES):
        if options.quick and len(build().names) > QUICK:
            continue
        with context.Pool(1) as pool:
            row = pool.apply(measure, (case, options.repeats))
        rows.append(row)
        print(
            f"| {row.name} | {row.nodes} | {row.plans} | {row.edges} | {row.mode} "
            f"| {row.stopped} | {row.seconds:.2f} "
            f"| {row.fastest:.2f}-{row.slowest:.2f} | {row.wall_seconds:.2f} "
            f"| {row.peak_mib:.0f} "
            f"| {row.file_kib:.0f} |",
            flush=True,
        )
    folder = ROOT / "runs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": f"{platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "repeats": options.repeats,
        "rows": [asdict(row) for row in rows],
    }
    text = json.dumps(report, indent=1) + "\n"
    (folder / "invert.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
