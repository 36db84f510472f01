"""Times sums over discrete latents.

    python -m tests.bench.bench_marginal [--repeats N] [--output FILE]

One core. The chain is a process of its own, from the text of the program to the printed
answer, start-up included; the networks are timed from the text to the answer in this
process. Of the mixture log p of 1,000 rows is timed with its gradient. Seconds are of
processor time, the least of all repeats, with those of wall time in brackets.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch

import flows
from flows.marginal.target import collapse

ADVANCE = """
(defn advance [t state rows means ys]
  (let [z (sample (discrete (get rows state)))]
    (observe (normal (get means z) 1.0) (get ys t))
    z))"""
"""A step of a hidden Markov model."""


def chain_data(steps: int) -> list[float]:
    """Return data of a hidden Markov model of three states."""
    random = Random(0)
    rows = [[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]]
    state, data = 0, []
    for _ in range(steps):
        (state,) = random.choices(range(3), rows[state])
        data.append(round(random.gauss(2.0 * state - 2.0, 1.0), 3))
    return data


def chain(steps: int) -> str:
    """Return this model, all but the states known."""
    data = " ".join(map(str, chain_data(steps)))
    return f"""{ADVANCE}
(let [rows [[0.8 0.1 0.1] [0.2 0.6 0.2] [0.1 0.3 0.6]]
      means [-2.0 0.0 2.0]
      ys [{data}]
      z (sample (discrete [1.0 1.0 1.0]))]
  (loop {steps} z advance rows means ys))"""


def noisy_or(causes: int, diseases: int = 10, findings: int = 8) -> str:
    """Return diseases that cause findings, each finding by some of them."""
    random = Random(1)
    lines = [
        f"d{d} (sample (flip {random.uniform(0.02, 0.3):.3f}))" for d in range(diseases)
    ]
    observed = []
    for finding in range(findings):
        kept = " ".join(
            f"(if d{d} {random.uniform(0.2, 0.9):.3f} 1.0)"
            for d in sorted(random.sample(range(diseases), causes))
        )
        value = "true" if finding % 2 else "false"
        observed.append(f"(observe (flip (- 1.0 (* 0.98 {kept}))) {value})")
    names = " ".join(f"d{d}" for d in range(diseases))
    return f"(let [{' '.join(lines)}] {' '.join(observed)} [{names}])"


def network(nodes: int = 40, width: int = 12) -> str:
    """Return binary nodes whose elimination joins `width` + 1 of them.

    The first ones agree in pairs, each with each, as far as data say.
    """
    random = Random(2)
    lines, observed = [], []
    for node in range(nodes):
        if node <= width:
            lines.append(f"v{node} (sample (flip {random.uniform(0.2, 0.8):.3f}))")
            continue
        one, other = random.sample(range(node - width, node), 2)
        chances = [f"{random.uniform(0.1, 0.9):.3f}" for _ in range(4)]
        lines.append(
            f"v{node} (sample (flip (if v{one} (if v{other} {chances[0]} {chances[1]})"
            f" (if v{other} {chances[2]} {chances[3]}))))"
        )
    for one in range(width + 1):
        for other in range(one):
            chance = random.uniform(0.3, 0.7)
            observed.append(
                f"(observe (flip (if (= v{one} v{other}) {chance:.3f} 0.5)) true)"
            )
    return f"(let [{' '.join(lines)}] {' '.join(observed)} v{nodes - 1})"


def mixture_data(points: int, clusters: int) -> list[float]:
    """Return draws of normals around 0, 3, 6, ..."""
    random = Random(3)
    return [
        round(random.gauss(3.0 * random.randrange(clusters), 1.0), 3)
        for _ in range(points)
    ]


def mixture(points: int, clusters: int) -> str:
    """Return a mixture of normals with unknown means and shares."""
    data = " ".join(map(str, mixture_data(points, clusters)))
    return f"""
(let [shares (sample (dirichlet [{" ".join(["1.0"] * clusters)}]))
      means [{" ".join(["(sample (normal 0 10))"] * clusters)}]]
  (foreach {points} [y [{data}]]
    (let [z (sample (discrete shares))]
      (observe (normal (get means z) 1.0) y)))
  means)"""


Seconds = tuple[float, float]
"""Of processor time and of wall time."""


def least(work: Callable[[], object], repeats: int) -> Seconds:
    """Return the least times of some repeats."""
    found = []
    for _ in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        work()
        found.append((time.process_time() - busy, time.perf_counter() - wall))
    return min(found)


def by_command(text: str) -> Seconds:
    """Time `daphne-flows infer` in a process of its own."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "program.daphne"
        place.write_text(text)
        wall, before = time.perf_counter(), os.times()
        subprocess.run(
            [sys.executable, "-m", "flows", "infer", str(place), "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        after = os.times()
        busy = after.children_user + after.children_system
        return (
            busy - before.children_user - before.children_system,
            time.perf_counter() - wall,
        )


def from_text(text: str, repeats: int) -> Seconds:
    """Time an exact answer from the program's text, all libraries loaded."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "program.daphne"
        place.write_text(text)

        def work() -> None:
            answer = flows.infer(flows.Model.compile(place))
            if answer.method != "exact" or not math.isfinite(answer.log_evidence):
                raise SystemExit(f"no exact answer: {answer.why}")

        work()
        return least(work, repeats)


def with_gradient(text: str, rows: int, repeats: int) -> Seconds:
    """Time log p of rows with its gradient."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "program.daphne"
        place.write_text(text)
        model = collapse(flows.Model.compile(place))
    draws = model.sample_latents(rows, generator=torch.Generator().manual_seed(0))
    latents, observed = draws.requires_grad_(), model.observation()

    def work() -> None:
        torch.autograd.grad(model.log_joint(latents, observed).sum(), latents)

    work()
    return least(work, repeats)


def options_of(description: str | None, repeats: int) -> argparse.Namespace:
    """Return the options of a bench that repeats, on one thread."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--output", type=Path)
    torch.set_num_threads(1)
    return parser.parse_args()


def main() -> None:
    """Print the table and write it as JSON if asked to."""
    options = options_of(__doc__, 3)
    repeats = options.repeats
    long = chain(10_000)
    rows = {
        "ten diseases, findings of four each": from_text(noisy_or(4), repeats),
        "ten diseases, findings of all ten": from_text(noisy_or(10), repeats),
        "40 binary nodes of width 12": from_text(network(), repeats),
        "mixture 1,000 x 5, gradients of 1,000 rows": with_gradient(
            mixture(1000, 5), 1000, repeats
        ),
        "chain of 10,000 steps, whole process": min(
            by_command(long) for _ in range(repeats)
        ),
    }
    for name, (busy, wall) in rows.items():
        print(f"{name:44} {busy:7.3f} s ({wall:.3f})")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
