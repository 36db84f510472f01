"""Tests of flows.model.families: scipy is the oracle for densities and draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from daphne_bridge.language.families import FAMILIES
from flows.model.families import DENSITIES, counts, event_shape

from .interpreter import log_density

_V = [[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.5]]
_X = [[1.0, 0.2, 0.0], [0.2, 2.0, -0.3], [0.0, -0.3, 0.7]]

CASES = {
    "normal": [((0.5, 2.0), [-3.0, 0.5, 40.0]), ((-1e3, 1e-3), [-1e3, -999.998])],
    "laplace": [((0.5, 2.0), [-3.0, 0.5, 40.0])],
    "gamma": [((2.0, 3.0), [1e-8, 0.7, 30.0]), ((0.3, 0.1), [1e-12, 5.0])],
    "beta": [((2.0, 3.0), [1e-9, 0.4, 0.999]), ((0.5, 0.5), [1e-9, 0.4])],
    "exponential": [((3.0,), [0.0, 0.7, 30.0])],
    "uniform-continuous": [((-1.0, 3.0), [-1.0, 0.0, 3.0])],
    "uniform": [((-1.0, 3.0), [-1.0, 0.0, 3.0])],
    "truncated-normal": [
        ((0.5, 2.0, -1.0, 3.0), [-1.0, 0.4, 2.9]),
        ((0.0, 1.0, 9.0, 40.0), [9.0, 9.1]),
        ((0.0, 1.0, -40.0, -9.0), [-9.1]),
    ],
    "half-normal": [((2.0,), [0.0, 0.7, 30.0])],
    "cauchy": [((0.5, 2.0), [-300.0, 0.4, 2.0])],
    "half-cauchy": [((2.0,), [0.0, 0.7, 300.0])],
    "lognormal": [((0.5, 2.0), [1e-8, 0.7, 30.0])],
    "inverse-gamma": [((2.0, 3.0), [0.01, 0.7, 30.0])],
    "student-t": [((3.0,), [-30.0, 0.0, 2.0]), ((0.7,), [1e6])],
    "student-t-loc-scale": [((3.0, 1.0, 0.2), [-3.0, 1.0, 2.0])],
    "chi-squared": [((2.0,), [0.1, 4.0]), ((7.5,), [0.1, 4.0])],
    "flip": [((0.3,), [0, 1])],
    "bernoulli": [((0.3,), [0, 1])],
    "binomial": [((5, 0.3), [0, 2, 5]), ((1, 0.9), [0, 1])],
    "poisson": [((3.5,), [0, 3, 30]), ((0.01,), [0, 1]), ((0.0,), [0])],
    "geometric": [((0.3,), [0, 2, 30]), ((1.0,), [0])],
    "negative-binomial": [((2.5, 0.3), [0, 2, 30])],
    "discrete": [(((1.0, 2.0, 0.5),), [0, 1, 2])],
    "categorical": [(((1.0, 2.0, 0.5),), [0, 1, 2])],
    "uniform-discrete": [((-2, 3), [-2, 0, 2])],
    "dirac": [((2.0,), [2])],
    "dirichlet": [(((1.5, 2.0, 0.7),), [[0.2, 0.5, 0.3], [0.01, 0.01, 0.98]])],
    "mvn": [(((0.0, 1.0, 2.0), _V), [[0.3, -0.4, 9.0], [0.0, 1.0, 2.0]])],
    "multivariate-t": [((3.5, (0.0, 1.0, 2.0), _V), [[0.3, -0.4, 9.0]])],
    "wishart": [((4.5, _V), [_X, _V]), ((2.5, _V), [_X])],
}
"""Parameters and values in the support, by family."""

OUTSIDE = {
    "gamma": [-1.0, 0.0],
    "beta": [-0.1, 0.0, 1.0],
    "exponential": [-1e-9],
    "uniform-continuous": [-1.001, 3.001],
    "uniform": [-1.001, 3.001],
    "truncated-normal": [-1.001, 3.001],
    "half-normal": [-1e-9],
    "half-cauchy": [-1e-9],
    "lognormal": [-1.0, 0.0],
    "inverse-gamma": [-1.0, 0.0],
    "geometric": [-1, 0.5],
    "negative-binomial": [-1, 0.5],
    "chi-squared": [-1.0],
    "flip": [0.5, 2],
    "bernoulli": [-1],
    "binomial": [-1, 6, 1.5],
    "poisson": [-1, 0.5],
    "discrete": [-1, 3, 0.5],
    "categorical": [3],
    "uniform-discrete": [-3, 3, 0.5],
    "dirac": [1, 0.5],
    "dirichlet": [[0.5, 0.6, -0.1], [0.2, 0.2, 0.2]],
    "wishart": [[[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]],
}
"""Values outside the support of the first case."""

INVALID = {
    "normal": [(0.0, -1.0), (0.0, 0.0)],
    "laplace": [(0.0, -1.0), (0.0, 0.0)],
    "gamma": [(-1.0, 1.0), (1.0, 0.0)],
    "beta": [(0.0, 1.0), (1.0, -2.0)],
    "exponential": [(0.0,), (-1.0,)],
    "uniform-continuous": [(3.0, 3.0), (3.0, -1.0)],
    "uniform": [(3.0, 3.0), (3.0, -1.0)],
    "truncated-normal": [(0.0, 0.0, -1.0, 1.0), (0.0, 1.0, 1.0, 1.0)],
    "half-normal": [(0.0,)],
    "cauchy": [(0.0, -1.0)],
    "half-cauchy": [(0.0,)],
    "lognormal": [(0.0, -1.0)],
    "inverse-gamma": [(-1.0, 1.0), (1.0, 0.0)],
    "geometric": [(0.0,), (1.5,)],
    "negative-binomial": [(0.0, 0.5), (2.0, 0.0)],
    "student-t": [(0.0,)],
    "student-t-loc-scale": [(3.0, 0.0, -1.0)],
    "chi-squared": [(0.0,)],
    "flip": [(1.5,), (-0.1,)],
    "bernoulli": [(1.5,)],
    "binomial": [(2.5, 0.5), (3, -0.5)],
    "poisson": [(-1.0,)],
    "discrete": [((0.0, 0.0),), ((1.0, -1.0),)],
    "categorical": [((0.0, 0.0),)],
    "uniform-discrete": [(3, 3), (0.5, 3)],
    "dirac": [(math.inf,)],
    "dirichlet": [((1.0, 0.0, 1.0),)],
    "mvn": [((0.0, 0.0), ((1.0, 2.0), (2.0, 1.0))), ((0.0, 0.0), ((1.0, 1), (0, 1.0)))],
    "multivariate-t": [(-1.0, (0.0, 0.0), ((1.0, 0.0), (0.0, 1.0)))],
    "wishart": [(0.5, ((1.0, 0.0), (0.0, 1.0)))],
}
"""Parameters that make no distribution."""


def _batch(value):
    """Return one value as a batch of one slot and one row."""
    return torch.tensor(value, dtype=torch.float64)[None, ..., None]


def _log_prob(family, parameters, value):
    density = DENSITIES[family]
    arguments = [_batch(parameter) for parameter in parameters]
    result = density.log_prob(_batch(value), *arguments)
    valid = density.validity(*arguments)
    return float(torch.where(valid, result, math.nan))


def test_the_families_are_those_of_the_bridge():
    assert DENSITIES.keys() == FAMILIES.keys()
    assert set(CASES) == set(FAMILIES)
    assert set(INVALID) == set(FAMILIES)
    for name, density in DENSITIES.items():
        names = tuple(parameter.name for parameter in density.parameters)
        assert names == FAMILIES[name].parameters


@pytest.mark.parametrize("family", CASES)
def test_log_prob_is_that_of_scipy(family):
    for parameters, values in CASES[family]:
        for value in values:
            expected = log_density(family, parameters, value)
            found = _log_prob(family, parameters, value)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("family", OUTSIDE)
def test_log_prob_is_minus_infinity_outside_the_support(family):
    parameters, _ = CASES[family][0]
    for value in OUTSIDE[family]:
        assert _log_prob(family, parameters, value) == -math.inf, value


@pytest.mark.parametrize("family", INVALID)
def test_log_prob_is_nan_where_a_parameter_has_no_meaning(family):
    _, values = CASES[family][0]
    for parameters in INVALID[family]:
        value = values[0]
        if FAMILIES[family].event == "vector":
            value = [0.5] * len(next(p for p in parameters if np.ndim(p)))
        if FAMILIES[family].event == "matrix":
            value = [[1.0, 0.0], [0.0, 1.0]]
        assert math.isnan(_log_prob(family, parameters, value)), parameters


@pytest.mark.parametrize("family", CASES)
def test_families_that_say_nan_themselves_do(family):
    density = DENSITIES[family]
    if density.says_nan:
        for parameters in INVALID[family]:
            arguments = [_batch(parameter) for parameter in parameters]
            assert torch.isnan(density.log_prob(_batch(0.7), *arguments)).all()
            assert torch.isnan(density.log_prob(arguments[0], *arguments)).all()


@pytest.mark.parametrize(
    "family", [name for name in CASES if not FAMILIES[name].is_discrete]
)
def test_gradients_are_those_of_finite_differences(family):
    parameters, values = CASES[family][0]
    density = DENSITIES[family]
    # The second value lies inside every support, away from kinks.
    value = values[1] if family in ("gamma", "beta", "exponential") else values[-1]
    value = 0.6 if FAMILIES[family].support == "interval" else value
    arguments = [_batch(value), *map(_batch, parameters)]

    def function(*parts):
        made = [
            part if part.dim() < 4 else (part + part.transpose(1, 2)) / 2
            for part in parts
        ]
        if family == "dirichlet":
            made[0] = made[0] / made[0].sum(1, keepdim=True)
        return density.log_prob(*made)

    for argument in arguments:
        argument.requires_grad_()
    assert torch.autograd.gradcheck(function, arguments, eps=1e-7, atol=1e-5, rtol=1e-4)


def _scipy(family, p):
    return {
        "normal": lambda: stats.norm(p[0], p[1]),
        "laplace": lambda: stats.laplace(p[0], p[1]),
        "gamma": lambda: stats.gamma(p[0], scale=1 / p[1]),
        "beta": lambda: stats.beta(p[0], p[1]),
        "exponential": lambda: stats.expon(scale=1 / p[0]),
        "uniform-continuous": lambda: stats.uniform(p[0], p[1] - p[0]),
        "uniform": lambda: stats.uniform(p[0], p[1] - p[0]),
        "truncated-normal": lambda: stats.truncnorm(
            (p[2] - p[0]) / p[1], (p[3] - p[0]) / p[1], p[0], p[1]
        ),
        "half-normal": lambda: stats.halfnorm(scale=p[0]),
        "cauchy": lambda: stats.cauchy(p[0], p[1]),
        "half-cauchy": lambda: stats.halfcauchy(scale=p[0]),
        "lognormal": lambda: stats.lognorm(p[1], scale=math.exp(p[0])),
        "inverse-gamma": lambda: stats.invgamma(p[0], scale=p[1]),
        "student-t": lambda: stats.t(p[0]),
        "student-t-loc-scale": lambda: stats.t(p[0], p[1], p[2]),
        "chi-squared": lambda: stats.chi2(p[0]),
    }[family]()


def _draw(family, parameters, num, seed=0):
    density = DENSITIES[family]
    arguments = [
        _batch(parameter).expand(1, *np.shape(parameter), num)
        for parameter in parameters
    ]
    return density.sample(torch.Generator().manual_seed(seed), *arguments)[0]


@pytest.mark.parametrize(
    "family",
    [n for n in CASES if FAMILIES[n].event == "scalar" and not FAMILIES[n].is_discrete],
)
def test_draws_of_a_continuous_family_have_its_distribution(family):
    parameters, _ = CASES[family][0]
    drawn = _draw(family, parameters, 4000).numpy()
    # Kolmogorov-Smirnov: a true sampler fails at 1e-5 once in 100,000 seeds.
    assert stats.kstest(drawn, _scipy(family, parameters).cdf).pvalue > 1e-5


@pytest.mark.parametrize("family", [n for n in CASES if FAMILIES[n].is_discrete])
def test_draws_of_a_discrete_family_have_its_probabilities(family):
    parameters, _ = CASES[family][0]
    num = 20_000
    drawn = _draw(family, parameters, num).numpy()
    for value in range(int(drawn.min()) - 1, int(drawn.max()) + 2):
        inside = _log_prob(family, parameters, float(value))
        expected = math.exp(inside)
        error = math.sqrt(expected * (1 - expected) / num) if expected < 1 else 0
        assert abs((drawn == value).mean() - expected) <= 5 * error + 1e-12


def _moments(family, parameters):
    match family:
        case "dirichlet":
            frozen = stats.dirichlet(parameters[0])
            return frozen.mean(), np.diag(frozen.cov())
        case "mvn":
            return np.array(parameters[0]), np.diag(np.array(parameters[1]))
        case "multivariate-t":
            scale = parameters[0] / (parameters[0] - 2)
            return np.array(parameters[1]), scale * np.diag(np.array(parameters[2]))
    frozen = stats.wishart(*parameters)
    return frozen.mean().ravel(), np.asarray(frozen.var()).ravel()


@pytest.mark.parametrize("family", ["dirichlet", "mvn", "multivariate-t", "wishart"])
def test_draws_of_a_vector_family_have_its_moments(family):
    parameters = CASES[family][0][0]
    if family == "multivariate-t":
        parameters = (9.5, *parameters[1:])
    num = 20_000
    drawn = _draw(family, parameters, num).reshape(-1, num).numpy()
    mean, variance = _moments(family, parameters)
    assert np.all(np.abs(drawn.mean(1) - mean) <= 5 * np.sqrt(variance / num))
    assert drawn.var(1) == pytest.approx(variance, rel=0.12)


def test_off_diagonal_moments_of_correlated_draws_are_right():
    drawn = _draw("mvn", ((0.0, 1.0, 2.0), _V), 40_000).numpy()
    assert np.cov(drawn) == pytest.approx(np.array(_V), abs=0.06)


def test_a_draw_of_weight_zero_never_happens():
    drawn = _draw("discrete", ((0.0, 1.0, 0.0, 2.0, 0.0),), 5000)
    assert set(drawn.tolist()) == {1.0, 3.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_lie_in_the_open_support_even_where_they_underflow(dtype):
    generator = torch.Generator().manual_seed(1)
    small = torch.full((1, 5000), 1e-3, dtype=dtype)
    for family in ("gamma", "beta", "chi-squared"):
        count = len(DENSITIES[family].parameters)
        drawn = DENSITIES[family].sample(generator, *[small] * count)
        density = DENSITIES[family].log_prob(drawn, *[small] * count)
        assert drawn.dtype == dtype
        assert torch.isfinite(density).all()


@pytest.mark.parametrize("mean", [5000.0, -5000.0])
def test_draws_of_a_lognormal_beyond_doubles_stand_at_their_ends(mean):
    # Seen: "draws have density 0 under the proposal that drew them".
    drawn = _draw("lognormal", (mean, 0.5), 100)
    assert torch.isfinite(drawn).all()
    for value in drawn.reshape(-1)[:3].tolist():
        assert math.isfinite(_log_prob("lognormal", (mean, 0.5), value))


@pytest.mark.parametrize("shape", [1e7, 1e9, 1e14])
@pytest.mark.parametrize("z", [-2.0, 0.0, 1.5])
def test_gammas_of_a_large_shape_have_the_density_of_a_normal(shape, z):
    # Seen: terms of 1e84 that cancel left digits that no prior has: a place 1e8 nats
    # too high, and an answer, to be trusted, that stood there.
    place = 1.0 + z / math.sqrt(shape)
    expected = stats.norm.logpdf(z) + 0.5 * math.log(shape)
    skew = (z**3 / 3.0 - z) / math.sqrt(shape)  # the next term of Edgeworth's series
    found = _log_prob("gamma", (shape, shape), place)
    assert found == pytest.approx(expected + skew, abs=3e-6)
    inverse = _log_prob("inverse-gamma", (shape, shape), 1.0 / place)
    assert inverse == pytest.approx(found + 2.0 * math.log(place), abs=3e-6)


@pytest.mark.parametrize("shape", [1e82, 1e300])
def test_no_gamma_is_higher_than_its_peak(shape):
    for value in (0.5, 1.0, 1.0 + 1e-12, 3.0):
        for family in ("gamma", "inverse-gamma"):
            found = _log_prob(family, (shape, shape), value)
            assert found <= 0.5 * math.log(shape)


def test_event_shapes_follow_the_parameters():
    assert event_shape("normal", ((), ())) == ()
    assert event_shape("discrete", ((4,),)) == ()
    assert event_shape("multivariate-t", ((), (3,), (3, 3))) == (3,)
    assert event_shape("wishart", ((), (2, 2))) == (2, 2)


def test_a_level_that_rounds_up_to_the_total_picks_the_last_positive_weight(
    monkeypatch,
):
    monkeypatch.setattr(counts, "unit", lambda like, generator: torch.ones_like(like))
    assert _draw("discrete", ((1.0, 2.0, 0.0),), 3).tolist() == [1.0] * 3


@pytest.mark.parametrize("rate", [1e-3, 1.0, 1e3])
def test_a_gamma_underflows_to_one_value_as_often_as_it_should(rate):
    num, tiny = 40_000, np.finfo(float).tiny
    drawn = _draw("gamma", (1e-3, rate), num).reshape(-1)
    expected = stats.gamma(1e-3, scale=1.0 / rate).cdf(tiny)
    share = float((drawn == tiny).double().mean())
    error = math.sqrt(expected * (1.0 - expected) / num)
    assert share == pytest.approx(expected, abs=5 * error)


@pytest.mark.parametrize("shape", [1e-3, 0.05, 0.4, 3.0])
def test_draws_of_a_beta_of_any_shape_have_its_distribution_at_both_ends(shape):
    # A gamma draw of a small shape underflows: a quarter of the draws was 0 / 0.
    drawn = _draw("beta", (shape, shape), 20_000).numpy()
    exact = stats.beta(shape, shape)
    for level in (1e-200, 1e-20, 1e-3, 0.5, 1 - 1e-3):
        expected = exact.cdf(level)
        error = math.sqrt(expected * (1 - expected) / 20_000)
        assert abs((drawn <= level).mean() - expected) <= 5 * error + 1e-12


def test_draws_of_a_dirichlet_of_small_concentrations_stand_at_its_corners():
    drawn = _draw("dirichlet", ((1e-3, 1e-3, 2e-3),), 20_000).numpy()
    assert np.isfinite(drawn).all()
    assert drawn.sum(0) == pytest.approx(1.0)
    assert drawn.mean(1) == pytest.approx([0.25, 0.25, 0.5], abs=0.02)
    assert (drawn.max(0) > 0.99).mean() > 0.97


def test_a_smooth_covariance_is_one_in_single_precision_too():
    i = torch.arange(11.0)
    matrix = torch.exp(-((i[:, None] - i) ** 2) / 18) + 1e-6 * torch.eye(11)
    valid = DENSITIES["mvn"].parameters[1].is_valid(matrix[None, :, :, None].float())
    assert bool(valid.all())


@pytest.mark.parametrize(
    ("mean", "low", "high"),
    [(0.0, 10.0, 11.0), (0.0, -41.0, -40.0), (12.0, 0.0, 1.0), (0.0, 38.0, 39.0)],
)
def test_draws_between_bounds_far_in_a_tail_have_their_distribution(mean, low, high):
    drawn = _draw("truncated-normal", (mean, 1.0, low, high), 4000).numpy()
    # In the far tail the gap from the nearer bound is exponential but for its square.
    a, b = low - mean, high - mean
    near = a if a > 0 else -b
    gap = np.abs(drawn - mean) - near
    grid = np.linspace(0, high - low, 20_001)
    density = np.exp(-near * grid - 0.5 * grid**2)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share = mass / mass[-1]
    assert stats.kstest(gap, lambda x: np.interp(x, grid, share)).pvalue > 1e-5
