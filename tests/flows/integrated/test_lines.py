"""Tests of flows.integrated.lines: conditionals at points, all rows at once."""

import torch

from flows.integrated import lines as module
from flows.integrated.conditionals import conditionals_of, latents_to_integrate
from flows.integrated.lines import Lines
from flows.model.model import Model
from tests.flows.integrated.programs import GROUPS


def _lines():
    model = Model.from_program(GROUPS)
    names = latents_to_integrate(model.graph, model.layout)
    found = conditionals_of(model.graph, model.layout, names)
    return Lines(model, [each for each in found if not each.is_prior]), model


def test_values_are_the_joint_density_along_the_line_up_to_a_constant():
    lines, model = _lines()
    draws = model.sample(5, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    with torch.no_grad():
        grid = lines.grids(free, draws.observed)
    for number, column in enumerate(lines.columns):
        at = grid.points[:, number, ::10]
        rows = free.expand(at.shape[1], -1, -1).clone()
        rows[..., column] = at.T
        natural, _ = model.constrain(rows)
        own = model.log_joint(natural, draws.observed)
        own = own - model.log_prior_terms(natural, draws.observed)[..., 4:].sum(-1)
        own = own + model.constrain_terms(rows)[..., :4].sum(-1)
        gap = grid.values[:, number, ::10] - own.T
        is_seen = (
            grid.values[:, number, ::10] > grid.values[:, number].amax(-1)[:, None] - 50
        )
        for row in range(5):
            kept = gap[row][is_seen[row]]
            assert float(kept.max() - kept.min()) < 1e-9


def test_rows_in_parts_are_the_same_rows(monkeypatch):
    lines, model = _lines()
    draws = model.sample(30, generator=torch.Generator().manual_seed(1))
    free = model.unconstrain(draws.latents)[0]
    with torch.no_grad():
        whole = lines.grids(free, draws.observed)
        monkeypatch.setattr(module, "_MOST_NUMBERS", 1)
        parts = lines.grids(free, draws.observed)
    torch.testing.assert_close(parts.log_integral(), whole.log_integral())
