"""This file draws the data of `clj-programs/posteriors`, the same each time.

    python tests/oracles/simulate.py

writes one CSV file beside each program.
"""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

__all__ = ["DATA", "PROGRAMS"]

PROGRAMS = Path(__file__).parents[2] / "clj-programs" / "posteriors"
"""Where programs and data stand."""

_SEED = 20_240_117

Generator = np.random.Generator
Table = Mapping[str, np.ndarray]


def linear_regression(rng: Generator) -> Table:
    x = rng.normal(100, 15, 434).round(1)
    return {"x": x, "y": (26 + 0.6 * x + rng.normal(0, 18.3, 434)).round(1)}


def logistic_regression(rng: Generator) -> Table:
    x = rng.normal(0, 1, (1000, 5)).round(3)
    score = -0.5 + x @ np.array([1.0, -0.8, 0.4, 0.0, 1.5])
    y = (rng.random(1000) < 1 / (1 + np.exp(-score))).astype(int)
    return {**{f"x{i + 1}": x[:, i] for i in range(5)}, "y": y}


def autoregression(rng: Generator) -> Table:
    y = list(rng.normal(0, 1, 5))
    for _ in range(195):
        past = np.dot([0.5, -0.3, 0.2, 0.1, -0.1], y[:-6:-1])
        y.append(0.3 + past + rng.normal(0, 0.6))
    return {"y": np.round(y, 3)}


def garch(rng: Generator) -> Table:
    variance, y = 0.25, [5 + 0.5 * rng.normal()]
    for _ in range(199):
        variance = 0.1 + 0.3 * (y[-1] - 5) ** 2 + 0.5 * variance
        y.append(5 + np.sqrt(variance) * rng.normal())
    return {"y": np.round(y, 3)}


def hierarchical(rng: Generator) -> Table:
    theta = rng.normal(4, 1.5, 12)
    group = np.repeat(np.arange(12), 8)
    return {"group": group, "y": (theta[group] + rng.normal(0, 2, 96)).round(2)}


def student_regression(rng: Generator) -> Table:
    x = rng.uniform(-3, 3, 100).round(2)
    y = 1 + 2 * x + rng.normal(0, 0.7, 100)
    y[rng.choice(100, 8, replace=False)] += rng.normal(0, 15, 8)
    return {"x": x, "y": y.round(2)}


def gaussian_process(rng: Generator) -> Table:
    x = np.linspace(-10, 10, 11)
    gap = x[:, None] - x
    smooth = 1.5**2 * np.exp(-0.5 * gap**2 / 5.5**2) + 0.3**2 * np.eye(11)
    return {"x": x, "y": (np.linalg.cholesky(smooth) @ rng.normal(size=11)).round(3)}


def mixture(rng: Generator) -> Table:
    is_high = rng.random(1000) < 0.35
    y = np.where(is_high, rng.normal(2.5, 0.6, 1000), rng.normal(-0.5, 1.2, 1000))
    return {"y": y.round(3)}


def hidden_markov_model(rng: Generator) -> Table:
    states = [0]
    for _ in range(99):
        stays = rng.random() < (0.85, 0.7)[states[-1]]
        states.append(states[-1] if stays else 1 - states[-1])
    return {"y": rng.normal(np.where(states, 2.0, -0.5), 1.0).round(3)}


DATA: Mapping[str, Callable[[Generator], Table]] = {
    made.__name__: made
    for made in (
        linear_regression,
        logistic_regression,
        autoregression,
        garch,
        hierarchical,
        student_regression,
        gaussian_process,
        mixture,
        hidden_markov_model,
    )
}
"""What draws the data of each program, by the program's name."""


def main() -> None:
    """Write all data."""
    for name, draw in DATA.items():
        table = draw(np.random.default_rng(_SEED))
        with (PROGRAMS / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))


if __name__ == "__main__":
    main()
