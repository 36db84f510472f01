"""This file times the fused engine against eager torch, interleaved in one run.

One iteration is the solve of `batch` rows in each direction and its gradients. Run as
`python -m tests.bench.bench_fused [--repeats 15] [--threads 1]`; prints medians in ms,
of CPU time with one thread (steadier on a shared machine), else of wall time.
"""

import argparse
import time
from collections.abc import Callable

import torch

from flows.cnf.engine import TorchEngine
from flows.cnf.fused import FusedEngine, warm_up
from flows.cnf.structure import StateBlock, Structure
from flows.cnf.vector_field import FieldConfig, VectorField

CIRCUIT = {5: (), 4: (5,), 3: (4, 5), 1: (3,), 0: (1, 3), 2: (0, 1)}
"""The circuit's inverse: node -> latent parents, in sampling order."""
CIRCUIT_OBSERVED = {5: (1,), 4: (), 3: (0, 1), 1: (0,), 0: (), 2: ()}


def circuit(auxiliary: int) -> Structure:
    position = {node: i for i, node in enumerate(CIRCUIT)}
    blocks = [
        StateBlock(
            f"z{node}",
            (node,),
            auxiliary,
            tuple(sorted(position[p] for p in parents)),
            CIRCUIT_OBSERVED[node],
        )
        for node, parents in CIRCUIT.items()
    ]
    return Structure(tuple(blocks), 2)


def state_space(steps: int, auxiliary: int) -> Structure:
    blocks = [
        StateBlock(f"z{i}", (i,), auxiliary, (i - 1,) if i else (), (i,))
        for i in range(steps)
    ]
    return Structure(tuple(blocks), steps)


CASES = {
    "circuit, 10 nuisances, 4 layers": (circuit(10), FieldConfig(4, 0)),
    "circuit, 10 nuisances, 3 layers": (circuit(10), FieldConfig(3, 0)),
    "circuit, none, h 16, 4 layers": (circuit(0), FieldConfig(4, 16)),
    "circuit, 2 nuisances, h 16, 4 layers": (circuit(2), FieldConfig(4, 16)),
    "circuit, none, h 1, 4 layers": (circuit(0), FieldConfig(4, 0)),
    "state space 50, 2 nuisances": (state_space(50, 2), FieldConfig(4, 0)),
    "state space 200, 2 nuisances": (state_space(200, 2), FieldConfig(4, 0)),
}


def iteration(
    field: VectorField, engine: FusedEngine | TorchEngine, batch: int
) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(1)
    structure = field.structure
    start = torch.randn(2, batch, structure.state_dim, generator=generator)
    observed = torch.randn(2, batch, structure.observed_dim, generator=generator)
    sign = torch.tensor([-1.0, 1.0])

    def run() -> None:
        field.zero_grad(set_to_none=True)
        solution = engine.solve(field, start, observed, sign)
        loss = solution.state.square().sum() / 2 - solution.log_det.sum()
        (loss / batch).backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", default="")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warm_up(lambda: print("compiling the kernel, once"))
    for name, (structure, config) in CASES.items():
        if options.case not in name:
            continue
        field = VectorField(structure, config, generator=torch.Generator())
        runs = [
            iteration(field, FusedEngine(options.steps, options.threads), options.batch)
        ]
        if not options.no_torch:
            runs.append(iteration(field, TorchEngine(options.steps), options.batch))
        times: list[list[float]] = [[] for _ in runs]
        clock = time.process_time if options.threads == 1 else time.perf_counter
        for repeat in range(options.repeats + 1):
            for run, spent in zip(runs, times, strict=True):
                before = clock()
                run()
                if repeat:
                    spent.append(1e3 * (clock() - before))
        medians = [sorted(spent)[len(spent) // 2] for spent in times]
        text = "  ".join(f"{median:8.2f}" for median in medians)
        least = min(times[0])
        print(f"{name:38s} {text}  (fused, least {least:.2f})", end="")
        print(f"  ratio {medians[1] / medians[0]:.1f}" if len(runs) == 2 else "")


if __name__ == "__main__":
    main()
