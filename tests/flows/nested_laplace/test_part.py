"""Tests of Laplace's approximation of an integral over nearly Gaussian latents."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from flows.model.model import Model
from flows.nested_laplace.noise import log_density, noise
from flows.nested_laplace.target import laplace_marginal
from tests.flows.nested_laplace.programs import (
    COUNTS,
    OUTLIERS,
    OUTLIERS_DATA,
    RETURNS,
)


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def by_scipy(model, outer):
    """Return Laplace's approximation by a search of its own and a Hessian of torch."""
    observed = model.observation()
    head = torch.tensor([outer], dtype=torch.float64)
    num = model.layout.latent_dim - 1

    def log_joint(rest):
        return model.log_joint(torch.cat([head, rest]), observed)

    def loss(rest):
        leaf = torch.tensor(rest, requires_grad=True)
        value = -log_joint(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
        return value.item(), slope.numpy()

    best = scipy.optimize.minimize(
        loss, np.zeros(num), jac=True, method="BFGS", options={"gtol": 1e-9}
    )
    hessian = torch.autograd.functional.hessian(log_joint, torch.tensor(best.x))
    root = 0.5 * torch.logdet(-hessian)
    return -best.fun + 0.5 * num * math.log(2.0 * math.pi) - float(root)


@pytest.mark.parametrize("program", [COUNTS, RETURNS])
@pytest.mark.parametrize("scale", [0.2, 0.7, 2.0])
def test_the_approximation_is_as_by_another_search(program, scale):
    model = Model.from_program(program)
    marginal = laplace_marginal(model)
    found = marginal.log_joint(row(scale), model.observation())
    assert float(found) == pytest.approx(
        by_scipy(model, scale), abs=2e-3
    )  # curvatures by differences


@pytest.mark.parametrize("program", [COUNTS, RETURNS, OUTLIERS])
def test_slopes_are_those_of_the_approximation(program):
    model = Model.from_program(program)
    marginal = laplace_marginal(model)
    at = row(0.6).requires_grad_()
    (slope,) = torch.autograd.grad(
        marginal.log_joint(at, model.observation()).sum(), at
    )
    step = 1e-3
    ends = [
        marginal.log_joint(row(0.6 + way * step), model.observation()).item()
        for way in (1.0, -1.0)
    ]
    assert slope.item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)


def test_modes_far_from_the_prior_are_found():
    # Where log densities of outliers rise faster and faster Newton's own steps end.
    model = Model.from_program(OUTLIERS)
    marginal = laplace_marginal(model)
    around = marginal.whole.around(
        marginal.coordinates.filled(row(0.02)), model.observation().unsqueeze(0)
    )
    mode = around.at(torch.zeros(1, 9, dtype=torch.float64))
    by_name = dict(zip(marginal.whole.latents, mode[0].tolist(), strict=True))
    own = [by_name[v.name] for v in model.layout.latents[1:]]
    assert own == pytest.approx([0.1, -1, 3, 0.3, -6.5, 0, -2.5, 0.2, 7.5], abs=0.01)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(let [s (sample (gamma 2 2))] (observe (normal s 1) 1) s)", "nothing"),
        (
            "(let [s (sample (gamma 2 2)) b (foreach 9 [] (sample (normal 0 s)))"
            " c (sample (poisson 2))]"
            " (foreach 9 [bi b] (observe (poisson (exp bi)) 2)) c)",
            "a discrete latent",
        ),
        (
            "(let [s (sample (gamma 2 2)) b (foreach 9 [] (sample (normal 0 s)))"
            " d (foreach 9 [bi b] (sample (gamma (exp bi) 1)))]"
            " (foreach 9 [di d] (observe (poisson di) 2)) s)",
            "latents whose distributions read them otherwise",
        ),
        (
            "(let [s (sample (gamma 2 2)) b (foreach 9 [] (sample (normal 0 s)))]"
            " (foreach 9 [bi b] (observe (normal bi 1) 2)) s)",
            "linear and Gaussian: exact",
        ),
    ],
)
def test_models_that_gain_nothing_are_left(text, why):
    assert laplace_marginal(Model.from_program(text)) is None, why


@pytest.mark.parametrize("freedom", [4.0, 16.0, math.inf])
def test_noise_has_its_density(freedom):
    generator = torch.Generator().manual_seed(0)
    drawn = noise((20_000, 1), freedom, generator=generator)
    scale = 1.0 if math.isinf(freedom) else math.sqrt((freedom + 1.0) / freedom)
    law = (
        scipy.stats.norm()
        if math.isinf(freedom)
        else scipy.stats.t(freedom, scale=scale)
    )
    assert scipy.stats.kstest(drawn[:, 0].numpy(), law.cdf).pvalue > 0.01
    at = torch.tensor([[0.0], [0.3], [-4.0]], dtype=torch.float64)
    assert log_density(at, freedom).numpy() == pytest.approx(law.logpdf(at[:, 0]))
    zero = torch.zeros(1, dtype=torch.float64)
    bend = torch.autograd.functional.hessian(
        lambda value: log_density(value, freedom), zero
    )
    assert float(bend) == pytest.approx(-1.0)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3])
def test_units_of_the_data_do_not_matter(unit):
    """In others the density of a scale and nine values is by their tenth power less."""

    def found(unit):
        data = " ".join(str(unit * y) for y in OUTLIERS_DATA)
        model = Model.from_program(f"""
            (let [s (sample (half-normal {unit}))
                  b (foreach 9 [] (sample (normal 0 (* 2 {unit}))))]
              (foreach 9 [bi b yi [{data}]]
                (observe (student-t-loc-scale 4 bi s) yi))
              s)""")
        marginal = laplace_marginal(model)
        at = (unit * row(0.5)).requires_grad_()
        value = marginal.log_joint(at, model.observation())
        (slope,) = torch.autograd.grad(value.sum(), at)
        return float(value.detach()) + 10 * math.log(unit), float(slope) * unit

    value, slope = found(1.0)
    assert found(unit) == pytest.approx((value, slope), rel=1e-4)


def test_a_scale_near_0_has_the_slope_of_its_prior():
    """All nine log rates are then 0.3, whatever the scale."""
    model = Model.from_program(COUNTS.replace("gamma 2 2", "half-normal 1"))
    marginal = laplace_marginal(model)
    for scale in (1e-6, 5e-8):
        at = row(scale).requires_grad_()
        value = marginal.log_joint(at, model.observation())
        (slope,) = torch.autograd.grad(value.sum(), at)
        assert abs(float(slope)) * scale < 1e-4  # of the logarithm of the scale
