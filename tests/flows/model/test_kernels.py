"""Tests of flows.model.kernels."""

import math

import pytest
import torch

from flows.model.kernels import KERNELS, RISKY, SparseRows, guarded, pick


def _random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_risky_operations_are_operations():
    assert set(KERNELS) >= RISKY


@pytest.mark.parametrize("has_values", [True, False])
def test_a_sparse_product_is_the_dense_one(has_values):
    rows = torch.tensor([0, 2, 2, 3, 0, 3])
    columns = torch.tensor([1, 0, 4, 2, 3, 2])
    values = _random(6) if has_values else None
    dense = torch.zeros(5, 5, dtype=torch.float64)
    entries = torch.ones(6, dtype=torch.float64) if values is None else values
    dense.index_put_((rows, columns), entries, accumulate=True)
    x = _random(5, 7).requires_grad_()
    sparse = SparseRows(5, 5, rows, columns, values)
    assert torch.allclose(sparse.apply(x), dense @ x)
    assert torch.autograd.gradcheck(sparse.apply, x)
    assert torch.autograd.gradgradcheck(sparse.apply, x)


def test_a_guarded_kernel_has_zero_gradient_where_nobody_reads():
    x = torch.tensor([[0.0, 1.0, -1.0, 4.0]], dtype=torch.float64, requires_grad=True)
    root = guarded(torch.sqrt, [x])
    read = torch.where(x.detach() > 0, root, 0.0)
    (gradient,) = torch.autograd.grad(read.sum(), x)
    assert gradient.tolist() == [[0.0, 0.5, 0.0, 0.25]]


def test_a_guarded_kernel_keeps_the_gradient_of_shared_arguments():
    x = _random(3, 1).abs().requires_grad_()
    y = _random(1, 4).requires_grad_()
    found = torch.autograd.grad(guarded(torch.div, [y, x]).sum(), [x, y])
    expected = torch.autograd.grad((y / x).sum(), [x, y])
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b)


def test_a_true_nan_gradient_is_not_hidden():
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(guarded(torch.sqrt, [x]).sum(), x)
    assert math.isinf(float(gradient))


def test_pick_takes_the_named_alternative_and_nan_outside():
    source = torch.tensor([[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]])
    rows = torch.tensor([[0, 1], [2, 0]])
    index = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    found = pick(index, rows, source)
    assert found[0].tolist() == [10.0, 21.0]
    assert found[1, 0] == 30.0
    assert math.isnan(found[1, 1])
    assert torch.isnan(pick(torch.tensor([[0.5], [-1.0]]), rows, source)).all()


def test_pick_reads_constants_that_all_rows_share():
    source = torch.tensor([[1.0], [2.0]])
    found = pick(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([[0, 1]]), source)
    assert found.tolist() == [[1.0, 2.0, 2.0]]
