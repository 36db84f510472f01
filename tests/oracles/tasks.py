"""Exact posterior draws of the programs in clj-programs/tasks, by numpy alone.

Every function takes a row of data, in the order of the program's observes, a number of
draws and a generator, and returns a row per draw, of the program's return value.

References:
    Lueckmann et al., "Benchmarking Simulation-Based Inference", AISTATS 2021.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.stats import truncnorm

__all__ = ["POSTERIORS", "TASKS", "generalised_linear_data"]

TASKS = Path(__file__).parents[2] / "clj-programs" / "tasks"
_VARIANCE = 0.1
"""Of the prior, where it is normal, and of the noise of the linear tasks."""
_CELLS = 160
"""Of a grid over half of an axis."""
_PROPOSED = 200_000

Draws = np.ndarray
Sampler = Callable[[np.ndarray, int, np.random.Generator], Draws]


def _linear_gaussian(data: np.ndarray, n: int, rng: np.random.Generator) -> Draws:
    return data / 2 + rng.normal(size=(n, len(data))) * (_VARIANCE / 2) ** 0.5


def _linear_uniform(data: np.ndarray, n: int, rng: np.random.Generator) -> Draws:
    sd = _VARIANCE**0.5
    low, high = (-1 - data) / sd, (1 - data) / sd
    return truncnorm.rvs(
        low, high, loc=data, scale=sd, size=(n, len(data)), random_state=rng
    )


def _kept(parts: Iterator[Draws], n: int) -> Draws:
    """Return the first n rows of what is accepted, part by part."""
    rows: list[Draws] = []
    while sum(map(len, rows)) < n:
        rows.append(next(parts))
    return np.concatenate(rows)[:n]


def _two_scales(data: np.ndarray, n: int, rng: np.random.Generator) -> Draws:
    def parts() -> Iterator[Draws]:
        while True:
            scale = rng.choice([1.0, 0.1], size=(n, 1))
            points = data + rng.normal(size=(n, 2)) * scale
            yield points[(np.abs(points) < 10).all(1)]

    return _kept(parts(), n)


def _two_moons(data: np.ndarray, n: int, rng: np.random.Generator) -> Draws:
    # The two numbers enter by their rotated difference and the size of their sum.
    def parts() -> Iterator[Draws]:
        while True:
            angle = (rng.random(n) - 0.5) * np.pi
            noise = 0.01 * rng.normal(size=(2, n))
            side = 0.1 * np.cos(angle) + 0.25 - data[0] + noise[0]
            along = data[1] - 0.1 * np.sin(angle) + noise[1]
            signed = side * rng.choice([-1, 1], size=n)
            points = np.stack([signed - along, signed + along], 1) / 2**0.5
            yield points[(side > 0) & (np.abs(points) < 1).all(1)]

    return _kept(parts(), n)


def _curved(data: np.ndarray, n: int, rng: np.random.Generator) -> Draws:
    x, y = data[0::2], data[1::2]
    u, v = x - x.mean(), y - y.mean()

    def log_evidence(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Return log p of the data given the scales, both means integrated out."""
        s1, s2, rho = a * a, b * b, np.tanh(c)
        left = 1 - rho**2
        square = u @ u / s1**2 - 2 * rho * (u @ v) / (s1 * s2) + v @ v / s2**2
        log_det = 2 * (np.log(s1) + np.log(s2)) + np.log(left)
        return -0.5 * (square / left + (len(x) - 1) * log_det)

    width = 3 / _CELLS
    half = (np.arange(_CELLS) + 0.5) * width
    whole = (np.arange(2 * _CELLS) + 0.5) * width - 3
    grid = [g.ravel() for g in np.meshgrid(half, half, whole, indexing="ij")]
    cells = log_evidence(*grid)
    weights = np.exp(cells - cells.max())
    weights /= weights.sum()

    def parts() -> Iterator[Draws]:
        while True:  # a point of a cell, accepted by its density against the cell's
            at = rng.choice(weights.size, 4 * n, p=weights)
            a, b, c = (g[at] + (rng.random(4 * n) - 0.5) * width for g in grid)
            ratio = np.exp(log_evidence(a, b, c) - cells[at])
            kept = rng.random(4 * n) * np.quantile(ratio, 0.999) < ratio
            a, b, c = a[kept], b[kept], c[kept]
            first, second = rng.normal(size=(2, len(a))) / len(x) ** 0.5
            rho = np.tanh(c)
            m1 = x.mean() + a * a * first
            m2 = y.mean() + b * b * (rho * first + np.sqrt(1 - rho**2) * second)
            signs = rng.choice([-1, 1], size=(2, len(a)))
            points = np.stack([m1, m2, a * signs[0], b * signs[1], c], 1)
            yield points[(np.abs(points[:, :2]) < 3).all(1)]

    return _kept(parts(), n)


def generalised_linear_data() -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of the generalised linear task and what is observed there."""
    with (TASKS / "generalised_linear.csv").open() as file:
        rows = np.array([*csv.reader(file)][1:], dtype=float)
    return rows[:, :-1], rows[:, -1]


def _generalised_linear(data: np.ndarray, n: int, rng: np.random.Generator) -> Draws:
    lags, _ = generalised_linear_data()
    inputs = np.column_stack([np.ones(len(lags)), lags])
    size = lags.shape[1]
    differences = np.diag(1 + np.sqrt(np.arange(size) / (size - 1)))
    differences += np.diag([-2.0] * (size - 1), -1) + np.diag([1.0] * (size - 2), -2)
    precision = np.zeros((size + 1, size + 1))
    precision[0, 0] = 0.5
    precision[1:, 1:] = differences.T @ differences
    mode = np.zeros(size + 1)
    for _ in range(50):
        shares = 1 / (1 + np.exp(-inputs @ mode))
        curvature = inputs.T * (shares * (1 - shares)) @ inputs + precision
        mode += np.linalg.solve(
            curvature, inputs.T @ (data - shares) - precision @ mode
        )
    # Draws around the mode by Student's t of eight degrees, then resampled.
    normal = rng.normal(size=(_PROPOSED, size + 1))
    shrink = rng.chisquare(8, size=(_PROPOSED, 1)) / 8
    root = np.linalg.cholesky(1.2 * np.linalg.inv(curvature))
    points = mode + normal / np.sqrt(shrink) @ root.T
    log_q = -0.5 * (8 + size + 1) * np.log1p((normal**2 / shrink).sum(1) / 8)
    drive = points @ inputs.T
    log_p = (data * drive - np.logaddexp(0, drive)).sum(1)
    log_p -= 0.5 * ((points @ precision) * points).sum(1)
    weights = np.exp(log_p - log_q - (log_p - log_q).max())
    return points[rng.choice(_PROPOSED, n, p=weights / weights.sum())]


POSTERIORS: dict[str, Sampler] = {
    "linear_gaussian": _linear_gaussian,
    "linear_uniform": _linear_uniform,
    "generalised_linear": _generalised_linear,
    "two_scales": _two_scales,
    "two_moons": _two_moons,
    "curved": _curved,
}
"""Exact draws by name of the program."""
