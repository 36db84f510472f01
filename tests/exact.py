"""This file holds closed-form answers: posteriors and evidences to compare with.

Linear-Gaussian graphs (trees, state spaces) by the algebra of one joint normal, state
spaces also by Kalman filter and Rauch-Tung-Striebel smoother, conjugate pairs, and
discrete models by enumeration. Nothing here uses `flows`.

References:
    Bishop, "Pattern recognition and machine learning" (2006), sections 2.3 and 13.3.
    Rauch, Tung, Striebel, "Maximum likelihood estimates of linear dynamic systems"
    (1965).
    Gelman et al., "Bayesian data analysis" (2013), chapter 2, for the conjugate pairs.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from daphne_bridge.graph.expression import evaluate
from daphne_bridge.graph.graph import Graph

__all__ = [
    "Conjugate",
    "Enumeration",
    "GaussianPosterior",
    "JointGaussian",
    "KalmanResult",
    "beta_binomial",
    "dirichlet_discrete",
    "enumerate_states",
    "gamma_exponential",
    "gamma_poisson",
    "joint_gaussian",
    "kalman",
    "normal_normal",
]


# ------------------------------------------------------------------ linear-Gaussian


@dataclass(frozen=True)
class GaussianPosterior:
    """The posterior of the latents of a linear-Gaussian graph.

    Attributes:
        names: The latents, in the order of the graph.
        mean: Posterior mean.
        covariance: Posterior covariance.
        log_evidence: Log density of the data, in nats.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    log_evidence: float

    @property
    def deviation(self) -> np.ndarray:
        """Posterior standard deviations."""
        return np.sqrt(np.diag(self.covariance))


@dataclass(frozen=True)
class JointGaussian:
    """All nodes of a linear-Gaussian graph as one normal vector.

    Attributes:
        latents: Names of the latents.
        observed: Names of the observed nodes.
        mean: Prior mean, by name.
        covariance: Prior covariance, rows and columns in the order of `mean`.
    """

    latents: tuple[str, ...]
    observed: tuple[str, ...]
    mean: Mapping[str, float]
    covariance: np.ndarray

    def _block(self, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
        order = {name: position for position, name in enumerate(self.mean)}
        return self.covariance[
            np.ix_([order[name] for name in rows], [order[name] for name in columns])
        ]

    def _mean(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self.mean[name] for name in names])

    def log_joint(self, values: Mapping[str, float]) -> float:
        """Return the log density of a value of every node."""
        names = list(self.mean)
        point = np.array([values[name] for name in names])
        return float(
            stats.multivariate_normal.logpdf(point, self._mean(names), self.covariance)
        )

    def posterior(self, data: Mapping[str, float]) -> GaussianPosterior:
        """Return the distribution of the latents given values of the observed nodes."""
        inner = self._block(self.observed, self.observed)
        cross = self._block(self.latents, self.observed)
        gap = np.array([data[name] for name in self.observed]) - self._mean(
            self.observed
        )
        gain = np.linalg.solve(inner, cross.T).T
        evidence = stats.multivariate_normal.logpdf(gap, cov=inner)
        return GaussianPosterior(
            self.latents,
            self._mean(self.latents) + gain @ gap,
            self._block(self.latents, self.latents) - gain @ cross.T,
            float(evidence),
        )


def joint_gaussian(graph: Graph) -> JointGaussian:
    """Return the joint normal of a graph whose nodes are all linear and normal.

    Every mean is read off by evaluating its link function at zero and at unit vectors.
    """
    mean: dict[str, float] = {}
    rows: dict[str, np.ndarray] = {}
    size = len(graph.nodes)
    for position, node in enumerate(graph.nodes):
        call = node.distribution
        assert call.head == "normal", node.name
        zero = dict.fromkeys(node.parents, 0.0)
        bias = float(evaluate(call.arguments[0], zero))
        deviation = float(evaluate(call.arguments[1], zero))
        row = np.zeros(size)
        row[position] = deviation
        total = bias
        for parent in node.parents:
            value = float(evaluate(call.arguments[0], zero | {parent: 1.0}))
            slope = value - bias
            row += slope * rows[parent]
            total += slope * mean[parent]
        rows[node.name], mean[node.name] = row, total
    factor = np.array([rows[name] for name in mean])
    return JointGaussian(graph.latents, graph.observed, mean, factor @ factor.T)


@dataclass(frozen=True)
class KalmanResult:
    """What filter and smoother say about a scalar state space.

    Attributes:
        mean: Smoothed means of the states.
        variance: Smoothed variances.
        log_evidence: Log density of the data, in nats.
    """

    mean: np.ndarray
    variance: np.ndarray
    log_evidence: float


def kalman(
    data: Sequence[float | None],
    *,
    initial_mean: float,
    initial_deviation: float,
    transition: float,
    transition_deviation: float,
    observation: float = 1.0,
    observation_deviation: float,
) -> KalmanResult:
    """Return the exact posterior of x_t = a x_{t-1} + e_t, y_t = c x_t + d_t.

    Args:
        data: Observation at each time; None where there is none.
        initial_mean: Mean of the first state.
        initial_deviation: Its standard deviation.
        transition: a.
        transition_deviation: Standard deviation of e.
        observation: c.
        observation_deviation: Standard deviation of d.
    """
    mean, variance = initial_mean, initial_deviation**2
    evidence = 0.0
    predicted, filtered = [], []
    for step, y in enumerate(data):
        if step:
            mean = transition * mean
            variance = transition**2 * variance + transition_deviation**2
        predicted.append((mean, variance))
        if y is not None:
            spread = observation**2 * variance + observation_deviation**2
            gap = y - observation * mean
            evidence += -0.5 * (math.log(2 * math.pi * spread) + gap**2 / spread)
            gain = variance * observation / spread
            mean, variance = mean + gain * gap, (1 - gain * observation) * variance
        filtered.append((mean, variance))
    means, variances = [filtered[-1][0]], [filtered[-1][1]]
    for step in range(len(data) - 2, -1, -1):
        mean, variance = filtered[step]
        next_mean, next_variance = predicted[step + 1]
        gain = variance * transition / next_variance
        means.append(mean + gain * (means[-1] - next_mean))
        variances.append(variance + gain**2 * (variances[-1] - next_variance))
    return KalmanResult(np.array(means[::-1]), np.array(variances[::-1]), evidence)


# ------------------------------------------------------------------ conjugate pairs


@dataclass(frozen=True)
class Conjugate:
    """The posterior of one parameter in the family of its prior.

    Attributes:
        parameters: The posterior's parameters, as the language counts them.
        mean: Posterior mean (of a vector, the vector of means).
        variance: Posterior variance.
        log_evidence: Log density of the data, in nats.
    """

    parameters: tuple[float, ...]
    mean: np.ndarray
    variance: np.ndarray
    log_evidence: float


def normal_normal(
    data: Sequence[float], mean: float, deviation: float, noise: float
) -> Conjugate:
    """Return the posterior of m ~ N(mean, deviation), y_i ~ N(m, noise)."""
    y = np.asarray(data, float)
    precision = 1 / deviation**2 + len(y) / noise**2
    center = (mean / deviation**2 + y.sum() / noise**2) / precision
    covariance = noise**2 * np.eye(len(y)) + deviation**2
    evidence = stats.multivariate_normal.logpdf(y, np.full(len(y), mean), covariance)
    spread = precision**-0.5
    return Conjugate(
        (center, spread), np.array(center), np.array(spread**2), float(evidence)
    )


def _gamma(shape: float, rate: float, evidence: float) -> Conjugate:
    return Conjugate(
        (shape, rate), np.array(shape / rate), np.array(shape / rate**2), evidence
    )


def gamma_poisson(data: Sequence[int], shape: float, rate: float) -> Conjugate:
    """Return the posterior of r ~ gamma(shape, rate), y_i ~ poisson(r)."""
    total, count = sum(data), len(data)
    evidence = (
        shape * math.log(rate)
        - math.lgamma(shape)
        + math.lgamma(shape + total)
        - (shape + total) * math.log(rate + count)
        - sum(math.lgamma(y + 1) for y in data)
    )
    return _gamma(shape + total, rate + count, evidence)


def gamma_exponential(data: Sequence[float], shape: float, rate: float) -> Conjugate:
    """Return the posterior of r ~ gamma(shape, rate), y_i ~ exponential(r)."""
    total, count = math.fsum(data), len(data)
    evidence = (
        shape * math.log(rate)
        - math.lgamma(shape)
        + math.lgamma(shape + count)
        - (shape + count) * math.log(rate + total)
    )
    return _gamma(shape + count, rate + total, evidence)


def beta_binomial(
    data: Sequence[int], trials: int, alpha: float, beta: float
) -> Conjugate:
    """Return the posterior of p ~ beta(alpha, beta), y_i ~ binomial(trials, p)."""
    hits = sum(data)
    misses = trials * len(data) - hits
    a, b = alpha + hits, beta + misses
    evidence = special.betaln(a, b) - special.betaln(alpha, beta)
    evidence += sum(math.log(math.comb(trials, y)) for y in data)
    variance = a * b / ((a + b) ** 2 * (a + b + 1))
    return Conjugate((a, b), np.array(a / (a + b)), np.array(variance), float(evidence))


def dirichlet_discrete(data: Sequence[int], alpha: Sequence[float]) -> Conjugate:
    """Return the posterior of p ~ dirichlet(alpha), y_i ~ discrete(p)."""
    prior = np.asarray(alpha, float)
    counts = np.bincount(data, minlength=len(prior))
    after = prior + counts
    evidence = (
        special.gammaln(prior.sum())
        - special.gammaln(prior).sum()
        + special.gammaln(after).sum()
        - special.gammaln(after.sum())
    )
    total = after.sum()
    mean = after / total
    return Conjugate(
        tuple(after), mean, mean * (1 - mean) / (total + 1), float(evidence)
    )


# ------------------------------------------------------------------ enumeration


@dataclass(frozen=True)
class Enumeration:
    """The posterior of a model with finitely many states.

    Attributes:
        states: Every state of the latents.
        probabilities: Posterior probability of each.
        log_evidence: Log probability (or density) of the data, in nats.
    """

    states: tuple[tuple[int, ...], ...]
    probabilities: np.ndarray
    log_evidence: float

    def marginal(self, position: int) -> dict[int, float]:
        """Return the posterior probability of each value of one latent."""
        result: dict[int, float] = {}
        for state, probability in zip(self.states, self.probabilities, strict=True):
            value = state[position]
            result[value] = result.get(value, 0.0) + float(probability)
        return result


def enumerate_states(
    log_joint: Callable[[tuple[int, ...]], float], supports: Sequence[Sequence[int]]
) -> Enumeration:
    """Return the posterior over all states.

    Args:
        log_joint: Log joint density of a state and the data.
        supports: Possible values of each latent.
    """
    states = tuple(itertools.product(*supports))
    terms = np.array([log_joint(state) for state in states])
    evidence = float(special.logsumexp(terms))
    return Enumeration(states, np.exp(terms - evidence), evidence)
