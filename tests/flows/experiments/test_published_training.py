"""Tests of flows.experiments.published_training."""

import torch

from flows.cnf.vector_field import FieldConfig
from flows.experiments.published_training import (
    PublishedConfig,
    fit_scales,
    scales_from_model,
    train_as_published,
)
from flows.flow.kinds import build_flow
from flows.training.batches import draw_batch
from flows.training.losses import symmetric
from tests.flows.cnf.models import gaussian_tree


def test_rates_are_those_of_the_paper_one_after_the_other():
    config = PublishedConfig(10)
    rates = [config.rate(i) for i in range(10)]
    assert rates == [1e-2] * 5 + [1e-3] * 3 + [5e-4] * 2


def test_scales_are_means_and_deviations_in_the_order_of_the_state():
    _, structure = gaussian_tree()
    flow = build_flow(structure, FieldConfig(layers=2, hidden=0)).double()
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    free = draws * torch.arange(1.0, 8.0) + 3.0
    observed = torch.ones(50, 8, dtype=torch.float64)
    fit_scales(flow, free, observed)
    columns = [c for block in structure.blocks for c in block.free_columns]
    expected = (free - free.mean(0)) / free.std(0)
    state = flow.to_residual(free, free[:, :0], observed)
    torch.testing.assert_close(state, expected[:, columns])
    # observed columns that never vary keep scale 1
    assert flow.normalisation.observed_scale.tolist() == [1.0] * 8


def test_training_lowers_the_objective():
    model, structure = gaussian_tree()
    flow = build_flow(structure, FieldConfig(layers=3, hidden=4), seed=1)
    scales_from_model(flow, model, 2000, seed=0)

    def loss(generator):
        batch = draw_batch(model, flow, 64, generator=generator)
        return symmetric(model, flow, batch).mean()

    steps = list(train_as_published(flow, loss, PublishedConfig(60), seed=0))
    losses = [step.loss for step in steps]
    assert [step.iteration for step in steps] == list(range(1, 61))
    assert not any(step.is_skipped for step in steps)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_a_step_without_a_finite_loss_leaves_the_weights_and_says_so():
    _, structure = gaussian_tree()
    flow = build_flow(structure, FieldConfig(layers=2, hidden=0))
    before = flow.field.bias.clone()

    def loss(_):
        return flow.field.bias.sum() * torch.inf

    (step,) = train_as_published(flow, loss, PublishedConfig(1), seed=0)
    assert step.is_skipped
    assert torch.equal(flow.field.bias, before)
