"""Times log_joint with its gradient against the node-by-node interpreter.

    python -m tests.bench.bench_density [--repeats N] [--threads N] [--output FILE]

Batch 256, float64. The two variants run in turn, so that both see the same machine;
the table shows medians of processor time and their ratio (the ratio of wall times
stands in brackets: the same on an idle machine). Memory is the growth of the process
during one call with gradient. Values are compared first: equal to 1e-6.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from torch.profiler import ProfilerActivity, profile

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.model.model import Model

from ..flows.model.naive import naive_log_joint

BATCH = 256


def convolution(size: int = 9, kernel: int = 3) -> Graph:
    """Return the graph of a random image seen through a known kernel, stride 2."""
    random = Random(1)
    weights = [[random.gauss(0, 0.5) for _ in range(kernel)] for _ in range(kernel)]
    links: dict = {f"sample{i}": _draw(0, 1) for i in range(size * size)}
    data = {}
    for i in range(0, size - kernel + 1, 2):
        for j in range(0, size - kernel + 1, 2):
            total: list | int = 0
            for r in range(kernel):
                row: list | int = 0
                for c in range(kernel):
                    name = f"sample{(i + r) * size + j + c}"
                    row = ["+", row, ["*", name, weights[r][c]]]
                total = ["+", total, row]
            _observe(links, data, ["normal", total, 1], random.gauss(0, 1))
    return _graph(links, data)


def state_space(steps: int = 1000) -> Graph:
    """Return the graph of a linear-Gaussian state space."""
    random = Random(2)
    links: dict = {"sample0": _draw(0, 5)}
    data: dict = {}
    last = "sample0"
    for step in range(1, steps + 1):
        name = f"sample{2 * step}"
        links[name] = _draw(["*", 0.9, last], 0.5)
        number = 2 * step + 1
        _observe(links, data, ["normal", name, 0.3], random.gauss(0, 1), number)
        last = name
    return _graph(links, data)


def regression(points: int = 10_000) -> Graph:
    """Return the graph of a linear regression with unknown noise."""
    random = Random(3)
    links: dict = {
        "sample0": _draw(0, 3),
        "sample1": _draw(0, 3),
        "sample2": ["sample*", ["gamma", 2, 2]],
    }
    data: dict = {}
    for point in range(points):
        x = random.gauss(0, 1)
        mean = ["+", ["*", "sample0", x], "sample1"]
        y = 0.7 * x - 0.2 + random.gauss(0, 0.5)
        _observe(links, data, ["normal", mean, "sample2"], y, point + 3)
    return _graph(links, data)


def _draw(mean: object, scale: object) -> list:
    return ["sample*", ["normal", mean, scale]]


def _observe(
    links: dict, data: dict, term: list, value: float, number: int | None = None
) -> None:
    name = f"observe{len(links) if number is None else number}"
    links[name] = ["observe*", term, value]
    data[name] = value


def _graph(links: dict, data: dict) -> Graph:
    parts = {"V": list(links), "A": {}, "P": links, "Y": data}
    return Graph.from_document(document_from_json([{}, parts, None]))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds of wall time and of processor time."""
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - busy


def measure(name: str, graph: Graph, repeats: int) -> dict:
    """Return the figures of one program."""
    start = time.perf_counter()
    model = Model.from_graph(graph)
    draws = model.sample(BATCH, generator=torch.Generator().manual_seed(0))
    latents = draws.latents.clone().requires_grad_()
    observed = model.observation()
    with torch.no_grad():
        fast_value = model.log_joint(latents, observed)
    build = time.perf_counter() - start
    slow_value = naive_log_joint(graph, model.layout, latents, observed.expand(1, -1))
    error = ((fast_value - slow_value).abs() / (1 + slow_value.abs())).max().item()

    def fast() -> None:
        torch.autograd.grad(model.log_joint(latents, observed).sum(), latents)

    def slow() -> None:
        value = naive_log_joint(graph, model.layout, latents, observed.expand(1, -1))
        torch.autograd.grad(value.sum(), latents)

    for _ in range(3):
        fast()
    times = []
    for _ in range(repeats):
        times.append((_timed(slow), *(_timed(fast) for _ in range(5))))
    slow_wall, slow_busy = (
        statistics.median(row[0][kind] for row in times) for kind in (0, 1)
    )
    fast_wall, fast_busy = (
        statistics.median(t[kind] for row in times for t in row[1:]) for kind in (0, 1)
    )
    fastest = [t[1] for row in times for t in row[1:]]
    return {
        "program": name,
        "nodes": len(graph.nodes),
        "build_s": build,
        "torch_groups": model.densities.joint.num_groups,
        "node_by_node_s": slow_busy,
        "batched_s": fast_busy,
        "batched_range_s": [min(fastest), max(fastest)],
        "ratio": slow_busy / fast_busy,
        "wall_ratio": slow_wall / fast_wall,
        "largest_relative_error": error,
        "bytes_per_node_and_row": _bytes(fast) / len(graph.nodes) / BATCH,
    }


def _bytes(work: Callable[[], object]) -> float:
    """Return the largest sum of live tensor memory during `work`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    live = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return float(peak)


def main() -> None:
    """Print the table and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [
        measure("convolution 9x9", convolution(), options.repeats),
        measure("state space, 1,000 steps", state_space(), options.repeats),
        measure("regression, 10,000 points", regression(), options.repeats),
        measure("regression, 1,000 points", regression(1000), options.repeats),
    ]
    print(f"torch {torch.__version__}, {platform.machine()}, threads {options.threads}")
    for row in rows:
        print(
            f"{row['program']:26} nodes {row['nodes']:6}  build {row['build_s']:6.2f} s"
            f"  groups {row['torch_groups']:3}"
            f"  node by node {row['node_by_node_s'] * 1e3:9.2f} ms"
            f"  batched {row['batched_s'] * 1e3:7.2f} ms  ratio {row['ratio']:5.0f}"
            f" (wall {row['wall_ratio']:5.0f})"
            f"  error {row['largest_relative_error']:.0e}"
            f"  {row['bytes_per_node_and_row']:5.0f} bytes/node/row"
        )
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
