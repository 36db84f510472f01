"""Tests of flows.structured_gaussian.scaling: one map for equal neighbouring rows."""

import torch

from flows.flow.kinds import build_flow
from flows.model.model import Model


def scaling():
    model = Model.compile("clj-programs/stochastic_volatility.daphne")
    flow = build_flow(model, kind="structured-gaussian", seed=0)
    draws = model.sample(300, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, draws.observed)
    given = flow.normalisation.normalise_observed(draws.observed)
    return flow.normalisation, free, given


def test_equal_neighbours_share_a_map_and_get_what_each_would():
    layer, free, given = scaling()
    which = torch.tensor([0, 0, 1, 1, 1, 2])
    rows, data = free[:6].float(), given[which].float()
    shared = layer.affine(data)
    assert len(shared.conditionals[0].offset) == 3
    found = shared.to_residual(rows)
    for row in range(6):
        alone = layer.affine(data[row : row + 1])
        wanted = alone.to_residual(rows[row : row + 1])
        torch.testing.assert_close(found[row : row + 1], wanted)
        torch.testing.assert_close(shared.log_det[row], alone.log_det[0])
    torch.testing.assert_close(shared.from_residual(found), rows)


def test_gradients_reach_networks_through_the_elimination():
    layer, free, given = scaling()
    residual = layer.affine(given[:4].float()).to_residual(free[:4].float())
    residual.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert float(parameter.grad.abs().sum()) > 0.0, name
