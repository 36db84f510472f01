"""Tests of flows.marginal.chains: a chain by its loop against round by round."""

import math

import numpy as np
import pytest
import torch

from flows.marginal.chains import find_chains
from flows.marginal.elimination import Elimination, Table
from flows.marginal.passes import log_sum

STEPS, STATES, ROWS = 60, 3, 7


def chain_tables(*, turned: bool = False, same: bool = True):
    """Tables of a chain in block 0, its steps' own in block 1."""
    pair = np.arange(STATES**2).reshape(STATES, STATES)
    tables = [
        Table((t, t + 1), pair if same or t != 5 else pair.T) for t in range(STEPS - 1)
    ]
    if turned:
        tables = [Table(table.scope[::-1], table.entries.T) for table in tables]
    for t in range(STEPS):
        tables.append(Table((t,), np.arange(t * STATES, (t + 1) * STATES), 1))
    tables.append(Table((0,), np.arange(STATES), 1))
    return tables


def numbers(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    shape = {"generator": generator, "dtype": torch.float64}
    pairs = torch.randn(STATES**2, ROWS, **shape)
    own = torch.randn(STEPS * STATES, ROWS, **shape)
    return [pairs.requires_grad_(), own.requires_grad_()]


def both_ways(elimination, blocks):
    """The sum and its slopes, as it is found and by rounds."""
    ways = (
        elimination.log_sum(blocks),
        log_sum(elimination._joins, elimination._left, blocks),
    )
    for way in ways:
        weights = torch.linspace(0.5, 2.0, len(way)).double()
        yield way, *torch.autograd.grad((weights * way).sum(), blocks)


@pytest.mark.parametrize("turned", [False, True])
def test_a_chain_is_summed_as_by_rounds(turned):
    tables = chain_tables(turned=turned)
    elimination = Elimination([STATES] * STEPS, tables, num_blocks=2)
    (chain,) = find_chains(elimination.cardinalities, tables)
    assert chain.variables == tuple(range(STEPS))
    found, right = both_ways(elimination, numbers())
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_what_stands_beside_a_chain_is_added():
    tables = chain_tables()
    other = np.arange(4).reshape(2, 2)
    tables += [Table((STEPS, STEPS + 1), other), Table((), np.array(3), 1)]
    elimination = Elimination([STATES] * STEPS + [2, 2], tables, num_blocks=2)
    assert len(find_chains(elimination.cardinalities, tables)) == 1
    found, right = both_ways(elimination, numbers(1))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_links_that_differ_or_part_make_no_chain():
    sizes = [STATES] * (STEPS + 1)
    assert not find_chains(sizes, chain_tables(same=False))
    pair = np.arange(STATES**2).reshape(STATES, STATES)
    assert not find_chains(sizes, [*chain_tables(), Table((5, STEPS), pair)])
    assert not find_chains(sizes, [*chain_tables(), Table((0, STEPS - 1), pair)])
    assert not find_chains(sizes, chain_tables()[20:])


@pytest.mark.parametrize("high", [200.0, math.inf, math.nan])
def test_numbers_that_are_too_much_for_the_loop_go_by_rounds(high):
    blocks = numbers(2)
    with torch.no_grad():
        # Either state is far likelier alone, and no link joins them.
        blocks[0].fill_(-high)
        blocks[0][[0, 4, 8]] = 0.0
        blocks[1].view(STEPS, STATES, ROWS)[::2, 0] = 100.0
        blocks[1].view(STEPS, STATES, ROWS)[1::2, 1] = 100.0
    elimination = Elimination([STATES] * STEPS, chain_tables(), num_blocks=2)
    with torch.no_grad():
        found = elimination.log_sum(blocks)
        right = log_sum(elimination._joins, elimination._left, blocks)
    assert torch.equal(found.nan_to_num(1e300), right.nan_to_num(1e300))
