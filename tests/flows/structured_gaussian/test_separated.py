"""Tests of flows.structured_gaussian.separated, against the factors of the model."""

import pytest
import torch

from flows.model.model import Model
from flows.structured_gaussian.reading import potentials_of
from flows.structured_gaussian.separated import Separated

PROGRAMS = [
    "stochastic_volatility", "poisson_regression", "robust_regression", "eight_schools",
]  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_factors_at_the_predictors_of_a_point_are_those_of_the_model(name):
    model = Model.compile(f"clj-programs/{name}.daphne")
    apart = Separated.of(model.graph, model.layout)
    learned = [
        each for each in potentials_of(model.graph, model.layout) if not each.is_exact
    ]
    data = model.observation()
    free = 0.3 * torch.randn(
        3, model.layout.free_dim, generator=torch.Generator().manual_seed(0)
    )
    free = free.double()
    latents, _ = model.constrain(free)
    jacobians = model.constrain_terms(free)
    order = [variable.name for variable in model.layout.latents]
    for number, (potential, factor) in enumerate(
        zip(learned, apart.names, strict=True)
    ):
        matrix = torch.tensor(potential.predictors, dtype=torch.float64)
        matrix = matrix.reshape(-1, *potential.shape)
        ones = torch.ones(3, 1).double()
        z = torch.cat([ones, free[:, list(potential.latents)]], -1)
        x = torch.cat([ones[0], data[list(potential.observed)]])
        predictors = torch.einsum("bz,kzx,x->bk", z, matrix, x)
        found = apart.log_factors([number], predictors[:, None], data)[:, 0]
        wanted = model.log_terms_of([factor], latents, data.expand(3, -1))[:, 0]
        if potential.own:
            wanted = wanted + jacobians[:, order.index(factor)]
        torch.testing.assert_close(found, wanted)
