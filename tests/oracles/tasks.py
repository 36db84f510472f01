"""Exact posterior draws of the programs in clj-programs/tasks, by numpy alone.

Every function takes a row of data, in the order of the program's observes, a number of
draws and a generator, and returns a row per draw, of the program's return value.

References:
    Lueckmann et al., "Benchmarking Simulation-Based Inference", AISTATS 2021.
"""

import csv
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.stats import invwishart, truncnorm

__all__ = ["POSTERIORS", "TASKS", "generalised_linear_data"]

TASKS = Path(__file__).parents[2] / "clj-programs" / "tasks"
_VARIANCE = 0.1
"""Of the prior, where it is normal, and of the noise of the linear tasks."""
_PROPOSED = 200_000
_MOST_PARTS = 100

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
    """Return the first n rows of what is accepted, part by part.

    Raises:
        ValueError: If nearly nothing is: the posterior leans on the prior's edges.
    """
    rows: list[Draws] = []
    for part in islice(parts, _MOST_PARTS):
        rows.append(part)
        if sum(map(len, rows)) >= n:
            return np.concatenate(rows)[:n]
    msg = f"{sum(map(len, rows))} draws accepted of {n}"
    raise ValueError(msg)


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
    # Without the means, and in entries of the covariance S in place of the square roots
    # of its scales and the inverse tanh of its correlation r, the posterior is
    # |S|^(-11/4) (1 - r^2)^(1/4) exp(-tr(scatter S^-1) / 2): an inverse Wishart of 2.5
    # degrees, of which a part is accepted.
    points = np.stack([data[0::2], data[1::2]])
    centre = points.mean(1)
    scatter = (points - centre[:, None]) @ (points - centre[:, None]).T

    def parts() -> Iterator[Draws]:
        while True:
            s = invwishart.rvs(2.5, scatter, size=4 * n, random_state=rng)
            scales = np.sqrt(s[:, [0, 1], [0, 1]])
            rho = s[:, 0, 1] / scales.prod(1)
            noise = rng.normal(size=(4 * n, 2, 1)) / points.shape[1] ** 0.5
            means = centre + (np.linalg.cholesky(s) @ noise)[:, :, 0]
            roots = np.sqrt(scales) * rng.choice([-1, 1], size=(4 * n, 2))
            rows = np.column_stack([means, roots, np.arctanh(rho)])
            kept = rng.random(4 * n) < (1 - rho**2) ** 0.25
            yield rows[kept & (np.abs(rows) < 3).all(1)]

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
