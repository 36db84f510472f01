"""Tests of flows.cnf.baselines."""

import pytest
import torch

from daphne_bridge.inversion.elimination_plans import PUBLISHED
from daphne_bridge.inversion.nami import invert_dag
from flows.cnf.baselines import (
    BASELINES,
    build_baseline,
    build_baseline_field,
    published_masks,
    published_parameter_count,
    random_masks,
)
from flows.cnf.paper_engine import ExactTraceEngine
from flows.cnf.vector_field import FieldConfig, VectorField
from flows.flow.structure import StateBlock, Structure
from flows.training.batches import draw_batch
from flows.training.losses import forward_kl, reverse_kl, symmetric

from .models import Circuit
from .random_structures import random_structure

CIRCUIT = {
    "z2": ("z0", "z1"),
    "z3": ("z0", "z1"),
    "z5": ("z3", "z4"),
    "x0": ("z3",),
    "x1": ("z5",),
}


def circuit_structure(nuisances: int) -> Structure:
    names = ["z0", "z1", "z2", "z3", "z4", "z5", "x0", "x1"]
    inverse = invert_dag(names, CIRCUIT, ["x0", "x1"], plans=PUBLISHED)
    assert inverse.num_edges == 12
    place = {name: i for i, name in enumerate(inverse.latents)}
    blocks = []
    for name in inverse.latents:
        parents = inverse.parents[name]
        blocks.append(
            StateBlock(
                name,
                (int(name[1]),),
                nuisances,
                tuple(sorted(place[p] for p in parents if p in place)),
                tuple(sorted(int(p[1]) for p in parents if p not in place)),
            )
        )
    return Structure(tuple(blocks), 2)


def test_parameter_counts_of_the_circuit_are_those_of_the_paper():
    structure = circuit_structure(10)
    counts = {
        name: build_baseline_field(name, structure).num_parameters()
        for name in BASELINES
    }
    assert counts["full"] == 18_679
    assert counts["ffjord"] == 17_801
    assert published_parameter_count(structure) == 7_725
    # with the self-loops that the published network trains, and the end time
    assert counts["faithful"] == counts["random"] == 7_725 + 4 * 66 + 1


def test_full_cliques_have_more_parameters_than_the_published_edges():
    structure = circuit_structure(10)
    field = VectorField(structure, FieldConfig(layers=4, hidden=0))
    # 9 latent edges of 11 x 11, 6 cliques, 3 observed edges; 4 vectors of 4 x 66
    by_hand = 4 * (9 + 6) * 121 + 3 * 11 + 4 * 4 * 66
    assert field.num_parameters() == by_hand > 7_725


def test_published_masks_follow_the_rule_of_the_paper_entry_by_entry():
    structure = random_structure(3, nuisances=2, vectors=True)
    mask = published_masks(structure)[0]
    columns = [
        (i, position < len(block.free_columns))
        for i, block in enumerate(structure.blocks)
        for position in range(block.size)
    ]
    for row, (i, row_is_free) in enumerate(columns):
        block = structure.blocks[i]
        for column, (j, column_is_free) in enumerate(columns):
            reads = j == i or (
                j in block.latent_parents and (column_is_free or not row_is_free)
            )
            assert bool(mask[row, column]) == reads
        for column in range(structure.observed_dim):
            reads = column in block.observed_columns
            assert bool(mask[row, len(columns) + column]) == reads
    assert not mask[:, -1].any()


def test_random_masks_keep_counts_and_self_loops_but_not_places():
    structure = random_structure(5, nuisances=2)
    size = structure.state_dim
    generator = torch.Generator().manual_seed(1)
    drawn = random_masks(structure, generator=generator)
    for mask, model in zip(drawn, published_masks(structure), strict=True):
        assert mask[:, :size].sum() == model[:, :size].sum()
        assert mask[:, size:].sum() == model[:, size:].sum()
        assert mask[:, :size].diagonal().all()
        assert not torch.equal(mask, model)


@pytest.mark.parametrize("name", ["faithful", "random"])
def test_the_jacobian_is_zero_where_no_path_through_the_masks_leads(name):
    structure = random_structure(2, nuisances=1)
    field = build_baseline_field(name, structure, seed=3).double()
    observed = torch.zeros(1, 3, dtype=torch.float64)
    time = torch.tensor(0.3, dtype=torch.float64)
    state = torch.randn(1, structure.state_dim, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: field.velocity(time, z, observed)[0], state
    )[:, 0]
    size = structure.state_dim
    path = torch.eye(size, dtype=torch.float64)
    for number in range(4):
        mask = getattr(field, f"mask_{number}")[:, :size].double()
        path = mask @ path
    assert (jacobian[path == 0] == 0).all()
    assert (jacobian[path > 0] != 0).all()


def test_the_velocity_is_the_formula_of_the_docstring():
    structure = random_structure(4)
    field = build_baseline_field("full", structure, seed=1).double()
    state = torch.randn(structure.state_dim, dtype=torch.float64)
    observed = torch.randn(3, dtype=torch.float64)
    t = 0.7
    hidden = [*state.tolist(), *observed.tolist(), t]
    for layer in range(4):
        weight = field.weights[layer].tolist()
        outputs = []
        for row, entries in enumerate(weight):
            linear = sum(w * h for w, h in zip(entries, hidden, strict=True))
            linear += field.bias[layer][row].item()
            rate = field.gate_rate[layer][row].item()
            offset = field.gate_offset[layer][row].item()
            gate = 1 / (1 + torch.tensor(-rate * t - offset).exp().item())
            value = linear * gate + field.time_bias[layer][row].item() * t
            if layer < 3:
                value = torch.tensor(value, dtype=torch.float64).tanh().item()
            outputs.append(value)
        hidden = outputs
    found = field.velocity(torch.tensor(t).double(), state[None], observed[None])[0]
    torch.testing.assert_close(
        found, torch.tensor(hidden, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_a_conditional_flow_with_the_same_objectives(name):
    model = Circuit()
    engine = ExactTraceEngine(1e-8)
    flow = build_baseline(name, circuit_structure(1), engine=engine, seed=2).double()
    generator = torch.Generator().manual_seed(0)
    batch = draw_batch(model, flow, 5, generator=generator)
    forward = forward_kl(model, flow, batch)
    reverse = reverse_kl(model, flow, batch)
    both = symmetric(model, flow, batch)
    torch.testing.assert_close(both, 0.5 * (forward + reverse), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        draw = flow.rsample_and_log_prob(batch.observed, generator=generator)
        again = flow.log_prob(draw.free, draw.nuisances, batch.observed)
    torch.testing.assert_close(again, draw.log_prob, rtol=1e-5, atol=1e-5)


def test_an_unknown_baseline_is_refused():
    with pytest.raises(ValueError, match="expected one of faithful, full"):
        build_baseline_field("dense", circuit_structure(0))
