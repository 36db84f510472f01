"""This file evaluates a graph node by node on plain Python values: the oracle.

It shares no code with `flows.model`: link functions are evaluated by the bridge on
plain values, densities are scipy's. Slow and simple on purpose.
"""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from daphne_bridge.graph.expression import Call, Expression, evaluate
from daphne_bridge.graph.graph import Graph
from daphne_bridge.language.families import FAMILIES

__all__ = ["assert_interpreted", "log_density", "log_terms", "values_of_row"]


def log_density(family: str, parameters: tuple, value) -> float:
    """Return scipy's log density of a value; a categorical's value is its index."""
    with np.errstate(divide="ignore"):
        return float(_log_density(family, parameters, value))


def _log_density(family, parameters, value):
    p = parameters
    match family:
        case "normal":
            return stats.norm.logpdf(value, p[0], p[1])
        case "laplace":
            return stats.laplace.logpdf(value, p[0], p[1])
        case "gamma":
            return stats.gamma.logpdf(value, p[0], scale=1 / p[1])
        case "beta":
            return stats.beta.logpdf(value, p[0], p[1])
        case "exponential":
            return stats.expon.logpdf(value, scale=1 / p[0])
        case "uniform" | "uniform-continuous":
            return stats.uniform.logpdf(value, p[0], p[1] - p[0])
        case "truncated-normal":
            low, high = (p[2] - p[0]) / p[1], (p[3] - p[0]) / p[1]
            return stats.truncnorm.logpdf(value, low, high, p[0], p[1])
        case "half-normal":
            return stats.halfnorm.logpdf(value, scale=p[0])
        case "cauchy":
            return stats.cauchy.logpdf(value, p[0], p[1])
        case "half-cauchy":
            return stats.halfcauchy.logpdf(value, scale=p[0])
        case "lognormal":
            return stats.lognorm.logpdf(value, p[1], scale=math.exp(p[0]))
        case "inverse-gamma":
            return stats.invgamma.logpdf(value, p[0], scale=p[1])
        case "student-t":
            return stats.t.logpdf(value, p[0])
        case "student-t-loc-scale":
            return stats.t.logpdf(value, p[0], p[1], p[2])
        case "chi-squared":
            return stats.chi2.logpdf(value, p[0])
        case "flip" | "bernoulli":
            return stats.bernoulli.logpmf(int(value), p[0])
        case "binomial":
            return stats.binom.logpmf(value, p[0], p[1])
        case "poisson":
            return stats.poisson.logpmf(value, p[0])
        case "geometric":
            return stats.geom.logpmf(value + 1, p[0])
        case "negative-binomial":
            return stats.nbinom.logpmf(value, p[0], p[1])
        case "discrete" | "categorical":
            weights = np.array(p[0], dtype=float)
            return np.log(weights[int(value)] / weights.sum())
        case "uniform-discrete":
            return stats.randint.logpmf(value, p[0], p[1])
        case "dirac":
            return 0.0 if value == p[0] else -math.inf
        case "dirichlet":
            point = np.array(value, dtype=float)
            return stats.dirichlet.logpdf(point / point.sum(), np.array(p[0], float))
        case "mvn":
            return stats.multivariate_normal.logpdf(
                np.array(value, float), np.array(p[0], float), np.array(p[1], float)
            )
        case "multivariate-t":
            return stats.multivariate_t.logpdf(
                np.array(value, float),
                np.array(p[1], float),
                np.array(p[2], float),
                df=p[0],
            )
        case "wishart":
            return stats.wishart.logpdf(
                np.array(value, float), p[0], np.array(p[1], float)
            )
    raise KeyError(family)


def distribution_of(expression: Expression, environment: Mapping):
    """Return (family, parameters) of a link function given its parents' values."""
    while isinstance(expression, Call):
        arguments = expression.arguments
        if expression.head in FAMILIES:
            return expression.head, tuple(evaluate(a, environment) for a in arguments)
        if expression.head == "if":
            test = evaluate(arguments[0], environment)
            taken = test is not None and test is not False
            expression = arguments[1] if taken else arguments[2]
        elif expression.head in ("get", "nth"):
            index = evaluate(arguments[1], environment)
            expression = arguments[0].arguments[index]
        else:
            break
    raise TypeError(expression)


def log_terms(graph: Graph, values: Mapping) -> dict[str, float]:
    """Return the log density of every node.

    Args:
        graph: The model.
        values: Value of every node, as a link function sees it.
    """
    terms = {}
    for node in graph.nodes:
        if node.condition is not None:
            test = evaluate(node.condition, values)
            if test is None or test is False:
                terms[node.name] = 0.0
                continue
        family, parameters = distribution_of(node.distribution, values)
        value = values[node.name]
        if family == "categorical":
            choices = [pair[0] for pair in parameters[0]]
            parameters = (tuple(pair[1] for pair in parameters[0]),)
            value = choices.index(value)
        terms[node.name] = log_density(family, parameters, value)
    return terms


_INTEGERS = (
    "bernoulli",
    "binomial",
    "poisson",
    "geometric",
    "negative-binomial",
    "discrete",
    "uniform-discrete",
)


def values_of_row(graph: Graph, layout, latents, observed) -> dict:
    """Return the nodes' values, as a link function sees them, from one row each."""
    values: dict = {}
    for node in graph.nodes:
        variable = layout.variable(node.name)
        row = observed if node.is_observed else latents
        numbers = [float(v) for v in row[variable.start : variable.stop]]
        family, parameters = distribution_of(node.distribution, values)
        if family == "flip":
            values[node.name] = bool(numbers[0])
        elif family in _INTEGERS:
            values[node.name] = int(numbers[0])
        elif family == "categorical":
            values[node.name] = parameters[0][int(numbers[0])][0]
        elif len(variable.shape) == 1:
            values[node.name] = tuple(numbers)
        elif len(variable.shape) == 2:
            size = variable.shape[1]
            values[node.name] = tuple(
                tuple(numbers[i : i + size]) for i in range(0, len(numbers), size)
            )
        else:
            values[node.name] = numbers[0]
        assert math.prod(variable.shape) == len(numbers)
    return values


def assert_interpreted(graph, model, latents, observed):
    """Assert that joint, prior and every term are those of the interpreter."""
    joint = model.log_joint(latents, observed)
    terms = model.log_likelihood_terms(latents, observed)
    prior_terms = model.log_prior_terms(latents, observed)
    likelihood = model.log_likelihood(latents, observed)
    for row in range(len(latents)):
        values = values_of_row(graph, model.layout, latents[row], observed[row])
        expected = log_terms(graph, values)
        by_node = [expected[name] for name in graph.observed]
        by_latent = [expected[name] for name in graph.latents]
        assert terms[row].tolist() == pytest.approx(by_node, rel=1e-9, abs=1e-9)
        assert prior_terms[row].tolist() == pytest.approx(by_latent, rel=1e-9, abs=1e-9)
        total = math.fsum(by_node)
        assert float(likelihood[row]) == pytest.approx(total, rel=1e-9, abs=1e-9)
        total += math.fsum(by_latent)
        assert float(joint[row]) == pytest.approx(total, rel=1e-9, abs=1e-9)
