"""Tests of flows.cnf.vector_field."""

import numpy as np
import pytest
import torch

from flows.cnf.vector_field import FieldConfig, VectorField, evaluate_field

from .models import Circuit
from .random_structures import CASES, case


def _by_hand(field, time, state, observed):
    """The formula of the module, block by block in numpy, from packed weights."""
    structure, config = field.structure, field.config
    packed = [w.detach().numpy() for w in field.weights]
    observed_packed = field.observed_weight.detach().numpy()
    b, c, g, k = (
        p.detach().numpy()
        for p in (field.bias, field.time_bias, field.gate_rate, field.gate_offset)
    )
    state_starts = np.concatenate([[0], np.cumsum(structure.sizes)])
    blocks = [
        state[state_starts[i] : state_starts[i + 1]]
        for i in range(len(structure.blocks))
    ]
    offset = 0
    for layer in range(config.layers):
        is_last = layer == config.layers - 1
        sizes = structure.sizes if is_last else field.hidden
        used, used_observed, row = 0, 0, 0
        result = []
        for i, block in enumerate(structure.blocks):
            height = sizes[i]
            total = np.zeros(height)
            for j in (*block.latent_parents, i):
                width = blocks[j].size
                weight = packed[layer][used : used + height * width]
                total += weight.reshape(height, width) @ blocks[j]
                used += height * width
            if layer == 0:
                columns = list(block.observed_columns)
                count = height * len(columns)
                weight = observed_packed[used_observed : used_observed + count]
                total += weight.reshape(height, len(columns)) @ observed[columns]
                used_observed += count
            place = slice(offset + row, offset + row + height)
            gate = 1 / (1 + np.exp(-(g[place] * time + k[place])))
            active = (total + b[place]) * gate + c[place] * time
            value = active if is_last else np.tanh(active)
            if config.residual and 0 < layer < config.layers - 1:
                value = value + blocks[i]
            result.append(value)
            row += height
        offset += row
        blocks = result
    return np.concatenate(blocks)


@pytest.mark.parametrize("name", CASES)
def test_field_equals_the_formula_computed_block_by_block(name):
    structure, field = case(name, 3)
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(4, structure.state_dim, generator=generator).double()
    observed = torch.randn(4, 3, generator=generator).double()
    times = torch.rand(4, generator=generator).double()
    dense = field.dense()
    gates = dense.gates(times, torch.ones_like(times))
    got, _ = evaluate_field(dense, state, dense.observed_term(observed), gates)
    for row in range(4):
        wanted = _by_hand(
            field, float(times[row]), state[row].numpy(), observed[row].numpy()
        )
        np.testing.assert_allclose(got[row].detach().numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_node_reads_only_itself_its_ancestors_and_what_they_observe(name):
    structure, field = case(name, 5)
    dense = field.dense()
    time = torch.tensor(0.3).double()
    gates = dense.gates(time, torch.ones_like(time))

    def velocity(state, observed):
        return evaluate_field(dense, state, dense.observed_term(observed), gates)[0]

    state = torch.randn(structure.state_dim).double()
    observed = torch.randn(3).double()
    of_state, of_observed = torch.autograd.functional.jacobian(
        velocity, (state, observed)
    )
    node = torch.tensor(structure.state_node)
    for row, i in enumerate(structure.state_node):
        allowed = torch.tensor([j in structure.reach[i] for j in node.tolist()])
        assert (of_state[row, ~allowed] == 0).all()
        seen = torch.tensor([x in structure.observed_reach[i] for x in range(3)])
        assert (of_observed[row, ~seen] == 0).all()


def test_parameters_are_packed_blocks_and_four_vectors():
    field = VectorField(Circuit.structure(10), FieldConfig(hidden=0))
    assert field.num_parameters() == 4 * 1815 + 33 + 4 * 4 * 66 == 8349
    # hidden blocks of 7, state blocks of 2: nine edges and six nodes
    field = VectorField(Circuit.structure(1), FieldConfig(hidden=7))
    entries = 15 * (7 * 2 + 7 * 7 + 7 * 7 + 2 * 7)
    assert field.num_parameters() == entries + 3 * 7 + 4 * (3 * 42 + 12)


def test_equal_seeds_give_equal_weights():
    one, two = (
        VectorField(
            Circuit.structure(),
            FieldConfig(),
            generator=torch.Generator().manual_seed(4),
        )
        for _ in range(2)
    )
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_one_layer_is_refused():
    with pytest.raises(ValueError, match="layers; expected at least 2; got 1"):
        VectorField(Circuit.structure(), FieldConfig(layers=1))
