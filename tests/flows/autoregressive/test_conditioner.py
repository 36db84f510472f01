"""Tests of flows.autoregressive.conditioner."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from flows.autoregressive.conditioner import (
    Conditioner,
    NetworkConfig,
    contexts_of,
    reads_of,
    sized,
)
from flows.flow.structure import StateBlock, Structure

STRUCTURE = Structure(
    (
        StateBlock("a", (1, 2), 1, (), (0, 2)),
        StateBlock("b", (0,), 0, (0,), ()),
        StateBlock("c", (3,), 2, (1,), (1,)),
        StateBlock("d", (4,), 0, (), ()),
    ),
    3,
)
CONFIG = NetworkConfig(
    components=2, layers=3, hidden=6, last_layer_scale=1.0, context=0
)
# Two columns of a read what the one of b reads; c and d read long data alone.
LONG = Structure(
    (
        StateBlock("a", (1, 2), 1, (), (6, 0, 2, 4)),
        StateBlock("b", (0,), 0, (0,), (6, 0, 2, 4)),
        StateBlock("c", (3,), 2, (1,), (1, 2, 3, 4, 5)),
        StateBlock("d", (4,), 0, (), (0, 2, 4, 6)),
        StateBlock("e", (5, 6), 0, (), (3, 5)),
    ),
    7,
)
OF_LONG = NetworkConfig(
    components=2, layers=2, hidden=5, last_layer_scale=1.0, context=4, forms=2
)
READS = ((5, 7), (0, 5, 7), (0, 1), (2, 6), ())


@pytest.fixture
def conditioner():
    return Conditioner(STRUCTURE, CONFIG, torch.Generator().manual_seed(0)).double()


def _rows():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 8, generator=generator, dtype=torch.float64)


def test_columns_read_parents_earlier_columns_and_data():
    assert reads_of(STRUCTURE, CONFIG) == READS


def test_mixtures_are_those_of_networks_taken_one_by_one(conditioner):
    rows, whole = _rows(), conditioner.whole
    mixture = conditioner(rows, whole)
    first = 0
    for place, column in enumerate(whole.columns):
        read = rows[:, list(READS[column])]
        weights = conditioner.first[first : first + read.shape[1]]
        first += read.shape[1]
        state = functional.silu(read @ weights + conditioner.first_bias[place])
        for layer in range(2):
            inner = state @ conditioner.hidden[layer, place]
            inner = inner + conditioner.hidden_bias[layer, place]
            state = state + functional.silu(inner)
        ends = state @ conditioner.last[place] + conditioner.last_bias[place]
        logits, centres, raw = ends.T.split(2)
        torch.testing.assert_close(mixture.centres[place], centres)
        torch.testing.assert_close(mixture.log_weights[place], logits.log_softmax(0))
        torch.testing.assert_close(mixture.scales[place], torch.log1p(raw.exp()) + 1e-3)


def test_parts_give_the_mixtures_of_the_whole(conditioner):
    rows, whole = _rows(), conditioner.whole
    mixture = conditioner(rows, whole)
    seen = []
    for part in conditioner.rounds:
        found = conditioner(rows, part)
        for i, column in enumerate(part.columns):
            place = whole.columns.index(column)
            torch.testing.assert_close(found.centres[i], mixture.centres[place])
            torch.testing.assert_close(found.scales[i], mixture.scales[place])
            seen.append(column)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_rounds_wait_for_what_they_read_and_for_nothing_else(conditioner):
    assert [sorted(p.columns) for p in conditioner.rounds] == [[0, 4], [1], [2], [3]]


def test_columns_that_are_not_read_change_nothing(conditioner):
    rows = _rows()
    before = conditioner(rows, conditioner.whole)
    rows[:, [3, 4]] = torch.nan
    after = conditioner(rows, conditioner.whole)
    torch.testing.assert_close(before.centres, after.centres)


def test_contexts_stand_for_long_data_that_several_columns_read():
    assert contexts_of(LONG, OF_LONG) == ((6, 0, 2, 4),)
    assert contexts_of(LONG, replace(OF_LONG, context=3)) == ((3, 5), (6, 0, 2, 4))
    assert contexts_of(LONG, replace(OF_LONG, context=8)) == ()
    assert contexts_of(LONG, replace(OF_LONG, context=0)) == ()
    assert reads_of(LONG, OF_LONG) == (
        (14, 15, 16, 17),
        (0, 14, 15, 16, 17),
        (0, 1, 14, 15, 16, 17),
        (2, 8, 9, 10, 11, 12),
        (7, 9, 11, 13),
        (10, 12),
        (5, 10, 12),
    )


@pytest.mark.parametrize(
    ("latents", "data", "expected"),
    [
        ((2,), (30,), 10),
        ((6,), (30,), 27),  # 6 means, 6 variances, 15 correlations
        ((6,), (9,), 17),
        ((12,), (100,), 64),
        ((6,), (5,), 10),
        ((1,), (30,), 10),
        ((6, 3), (30, 7), 13),
        ((3, 5), (30, 40), 20),
    ],
)
def test_a_context_has_as_many_numbers_as_its_latents_need(latents, data, expected):
    blocks, free, seen = [], 0, 0
    for place, (width, num) in enumerate(zip(latents, data, strict=True)):
        columns = tuple(range(free, free + width))
        read = tuple(range(seen, seen + num))
        blocks.append(StateBlock(f"b{place}", columns, 0, (), read))
        free, seen = free + width, seen + num
    structure = Structure(tuple(blocks), seen)
    found = sized(NetworkConfig(), structure)
    assert found == NetworkConfig(context=expected)
    assert sized(found, structure) is found
    fewest = contexts_of(structure, NetworkConfig(context=10))
    assert contexts_of(structure, found) == fewest


@pytest.mark.parametrize(("num", "expected"), [(4, 4), (5, 0)])
def test_there_are_few_contexts_or_none(num, expected):
    blocks = tuple(
        StateBlock(f"b{i}", (2 * i, 2 * i + 1), 0, (), tuple(range(3 * i, 3 * i + 3)))
        for i in range(num)
    )
    structure = Structure(blocks, 3 * num)
    assert len(contexts_of(structure, replace(OF_LONG, context=2))) == expected
    made = Conditioner(
        structure, replace(OF_LONG, context=2), torch.Generator().manual_seed(0)
    )
    observed = torch.zeros(1, 3 * num)
    assert made.with_contexts(observed).shape[1] == 3 * num + 2 * expected


@pytest.mark.parametrize("forms", [0, 2])
def test_contexts_are_those_of_a_network_of_two_layers(forms):
    config = replace(OF_LONG, forms=forms)
    made = Conditioner(LONG, config, torch.Generator().manual_seed(0)).double()
    observed = torch.randn(4, 7, generator=torch.Generator().manual_seed(1)).double()
    networks = made.contexts
    read = observed[:, [6, 0, 2, 4]]
    state = functional.silu(read @ networks.first + networks.first_bias[0])
    if forms:
        state = state + networks.forms(observed)[0]
    inner = state @ networks.hidden[0, 0] + networks.hidden_bias[0, 0]
    state = state + functional.silu(inner)
    expected = state @ networks.last[0] + networks.last_bias[0]
    found = made.with_contexts(observed)
    torch.testing.assert_close(found[:, 7:], expected)
    assert (found[:, :7] == observed).all()


def test_columns_with_a_context_depend_on_their_data_and_no_other():
    made = Conditioner(LONG, OF_LONG, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    observed = torch.randn(1, 7, generator=generator).double().requires_grad_()
    free = torch.randn(1, 7, generator=generator).double()
    residual = torch.randn(1, 7, generator=generator).double()
    given = torch.cat([free, made.with_contexts(observed)], -1)
    found = made.log_prob(given, residual)[0]
    data = ([0, 2, 4, 6],) * 3 + ([1, 2, 3, 4, 5], [0, 2, 4, 6], [3, 5], [3, 5])
    for place, column in enumerate(made.whole.columns):
        (slopes,) = torch.autograd.grad(found[place], observed, retain_graph=True)
        assert slopes[0].nonzero()[:, 0].tolist() == data[column]


def test_forms_begin_by_the_columns_that_read_their_context():
    """c, which reads other data, does not move those of a and b."""
    generator = torch.Generator().manual_seed(1)
    observed = torch.randn(3000, 7, generator=generator)
    scaled = torch.randn(3000, 7, generator=generator)
    scaled[:, 0] = observed[:, 4].square()
    scaled[:, 3] = observed[:, 6].square()
    made = Conditioner(LONG, OF_LONG, torch.Generator().manual_seed(0))
    made.fit(scaled, observed)
    forms = made.contexts.forms.requires_grad_(False)
    along = forms.directions.square() @ forms.weights[0].square()
    share = along[:, 0] / along[:, 0].sum()
    assert float(share[3]) > 0.8  # the fourth of 6, 0, 2, 4


def test_a_row_takes_as_many_numbers_more_as_its_forms_need():
    generator = torch.Generator().manual_seed(0)
    plain = Conditioner(LONG, replace(OF_LONG, forms=0), generator)
    made = Conditioner(LONG, OF_LONG, generator)
    # 16 directions and squares, 2 forms and logarithms, 20 units.
    assert made.row_size - plain.row_size == 2 * 16 + 2 * 2 + 20
