"""This file lists the distributions of the language and what their parameters mean.

The conventions are those of Anglican's runtime, which Daphne programs are written
for: `normal` takes a *standard deviation*, `gamma` a *rate*, `exponential` a *rate*,
`mvn` a *covariance*, `uniform-discrete` excludes its upper bound. `geometric` and
`negative-binomial` count the failures before the first, or n-th, success; `lognormal`
takes mean and deviation of the logarithm; `inverse-gamma` a *scale*; `uniform` is
another name of `uniform-continuous`; `dirac` is one value, a draw of it that value, an
observe of it a condition. A rate of 0 of `poisson`, no trials, a chance of 0 or 1 are
one value too; a `geometric` without a chance of success, or a scale of 0, is none, as
a number or computed alike. Densities are not here: the package has no
numerics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

__all__ = ["DISTRIBUTIONS", "FAMILIES", "Event", "Family", "Support"]

Event = Literal["scalar", "vector", "matrix"]
Support = Literal[
    "real",
    "positive",
    "nonnegative",
    "unit interval",
    "interval",
    "boolean",
    "zero or one",
    "integers from zero",
    "integer interval",
    "index",
    "category",
    "point",
    "simplex",
    "real vector",
    "positive definite matrix",
]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of distribution.

    Attributes:
        name: Its name in programs and documents.
        parameters: Names of its parameters, in order; all are required.
        support: Where it has mass. "interval" and "integer interval" are bounded by
            parameters, the former by the last two; "index" by the length of the
            weights.
        event: Shape of one draw.
        is_discrete: Whether it has a mass function rather than a density.
    """

    name: str
    parameters: tuple[str, ...]
    support: Support
    event: Event = "scalar"
    is_discrete: bool = False


def _table(*families: Family) -> Mapping[str, Family]:
    return MappingProxyType({family.name: family for family in families})


_discrete = partial(Family, is_discrete=True)

FAMILIES: Mapping[str, Family] = _table(
    Family("normal", ("mean", "standard deviation"), "real"),
    Family("laplace", ("location", "scale"), "real"),
    Family("gamma", ("shape", "rate"), "positive"),
    Family("beta", ("alpha", "beta"), "unit interval"),
    Family("exponential", ("rate",), "nonnegative"),
    Family("uniform-continuous", ("minimum", "maximum"), "interval"),
    Family("uniform", ("minimum", "maximum"), "interval"),
    Family(
        "truncated-normal",
        ("mean", "standard deviation", "minimum", "maximum"),
        "interval",
    ),
    Family("half-normal", ("scale",), "nonnegative"),
    Family("cauchy", ("location", "scale"), "real"),
    Family("half-cauchy", ("scale",), "nonnegative"),
    Family("lognormal", ("log-scale mean", "log-scale deviation"), "positive"),
    Family("inverse-gamma", ("shape", "scale"), "positive"),
    Family("student-t", ("degrees of freedom",), "real"),
    Family("student-t-loc-scale", ("degrees of freedom", "location", "scale"), "real"),
    Family("chi-squared", ("degrees of freedom",), "positive"),
    _discrete("flip", ("probability",), "boolean"),
    _discrete("bernoulli", ("probability",), "zero or one"),
    _discrete("binomial", ("trials", "probability"), "integer interval"),
    _discrete("poisson", ("rate",), "integers from zero"),
    _discrete("geometric", ("probability",), "integers from zero"),
    _discrete("negative-binomial", ("successes", "probability"), "integers from zero"),
    _discrete("discrete", ("weights",), "index"),
    _discrete("categorical", ("value-weight pairs",), "category"),
    _discrete(
        "uniform-discrete", ("minimum", "maximum (exclusive)"), "integer interval"
    ),
    _discrete("dirac", ("value",), "point"),
    Family("dirichlet", ("concentrations",), "simplex", event="vector"),
    Family("mvn", ("mean", "covariance"), "real vector", event="vector"),
    Family(
        "multivariate-t",
        ("degrees of freedom", "location", "scale matrix"),
        "real vector",
        event="vector",
    ),
    Family(
        "wishart",
        ("degrees of freedom", "scale matrix"),
        "positive definite matrix",
        event="matrix",
    ),
)


DISTRIBUTIONS: Mapping[str, Family] = MappingProxyType(
    {
        **FAMILIES,
        "categorical-crp": Family(
            "categorical-crp", ("counts", "concentration"), "index", is_discrete=True
        ),
    }
)
"""What a program may sample from: the families, and what a graph writes by one.

`(categorical-crp counts alpha)`, the next table of a Chinese restaurant, is
`(discrete (conj counts alpha))`.
"""
