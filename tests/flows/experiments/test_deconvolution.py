"""Tests of flows.experiments.deconvolution."""

import numpy as np
import pytest
import torch

from flows.cnf.engine import TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.errors import FlowsError
from flows.experiments.deconvolution import (
    convolve,
    deconvolve,
    inverse_adjacency,
)
from flows.model.data_backed import DataBackedModel
from flows.model.model import Model
from flows.training.config import TrainingConfig

from .programs import program

TINY = TrainingConfig(
    flow=FieldConfig(hidden=1),
    objective="forward",
    augment=0,
    budget_seconds=0.0,
    max_iterations=6,
    report_every=3,
    num_steps=2,
    warm_start_fraction=0.5,
    warm_start_batch_size=8,
    batch_size=4,
    final_batch_size=4,
    num_certifications=1,
    certify_draws=4,
    tolerance=1e-2,
    normalisation_draws=400,
)


@pytest.fixture(scope="module")
def graph():
    return program("convolution")


def backed(graph, num, seed):
    patches = np.random.default_rng(seed).normal(size=(num, 9, 9))
    return DataBackedModel.from_arrays(
        Model.from_graph(graph), {"pixel": patches}, "patches.npz"
    )


def test_convolution_is_the_sum_over_the_window():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 9, 9, generator=generator)
    filters = torch.randn(2, 3, 3, generator=generator)
    found = convolve(images, filters)
    for batch in range(2):
        for i in range(4):
            for j in range(4):
                expected = sum(
                    float(images[batch, 2 * i + a, 2 * j + b] * filters[batch, a, b])
                    for a in range(3)
                    for b in range(3)
                )
                assert abs(float(found[batch, i, j]) - expected) < 1e-5


def test_outputs_of_the_program_are_the_convolution_with_the_observed_filter(graph):
    model = backed(graph, 400, 0)
    rows = torch.arange(400)
    draws = model.sample_at(rows, generator=torch.Generator().manual_seed(0))
    filters = draws.observed[:, :9].reshape(-1, 3, 3)
    outputs = draws.observed[:, 9:].reshape(-1, 4, 4)
    noise = outputs - convolve(draws.latents.reshape(-1, 9, 9), filters)
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 / count**0.5
    assert abs(float(noise.std()) - 1.0) < 5 / (2 * count) ** 0.5
    # filters are drawn anew for every patch
    assert abs(float(filters.std()) - 1.0) < 5 / (2 * filters.numel()) ** 0.5


def test_the_adjacency_of_the_inverse_is_acyclic_and_counts_its_edges(graph):
    numbers = inverse_adjacency(graph)
    matrix = np.array(numbers["adjacency"])
    assert matrix.shape == (81, 81 + 25)
    assert matrix.sum() == numbers["edges"]
    assert (np.triu(matrix[:, :81]) == 0).all()
    assert numbers["edges"] < numbers["edges_of_a_full_acyclic_inverse"]
    # given the filter, the posterior is Gaussian with precision I + C'C: pixels in
    # windows of different outputs that never meet are independent; all others connect
    assert matrix[:, 81:].any(0).all()


def test_a_run_leaves_all_figures_and_examples(graph):
    numbers = deconvolve(
        graph,
        backed(graph, 200, 1),
        backed(graph, 8, 2),
        TINY,
        engine=TorchEngine,
        note=lambda _: None,
    )
    assert numbers["held_out_patches"] == 8
    assert numbers["iterations"] == 6
    assert set(numbers["losses"]) >= {"warm start", "done"}
    assert numbers["mean_squared_error_over_variance"] > 0
    examples = numbers["examples"]
    assert np.shape(examples["samples"]) == (6, 5, 9, 9)
    assert np.shape(examples["reconstructions"]) == (6, 5, 4, 4)
    rebuilt = convolve(
        torch.tensor(examples["samples"])[:, 0], torch.tensor(examples["filters"])
    )
    first = torch.tensor(examples["reconstructions"])[:, 0]
    torch.testing.assert_close(rebuilt, first, rtol=1e-4, atol=1e-4)


def test_another_program_is_refused():
    graph = program("arithmetic_circuit")
    model = DataBackedModel.from_arrays(
        Model.from_graph(graph), {"z0": np.zeros(4)}, "z.npz"
    )
    with pytest.raises(FlowsError, match="not the convolution program"):
        deconvolve(
            graph,
            model,
            model,
            TINY,
            engine=TorchEngine,
            note=lambda _: None,
        )
