"""Tests of flows.autoregressive.fused: densities and gradients against autograd."""

import copy

import pytest
import torch

from flows.autoregressive.conditioner import Conditioner, NetworkConfig
from flows.autoregressive.fused.compile import KERNEL
from flows.autoregressive.fused.differentiable import FusedDensity
from flows.flow.structure import StateBlock, Structure

# Runs of numbers side by side, gaps between them, and a column that reads nothing.
STRUCTURE = Structure(
    (
        StateBlock("a", (1, 2), 1, (), (0, 2)),
        StateBlock("b", (0,), 0, (0,), ()),
        StateBlock("c", (3,), 2, (1,), (1, 2, 3)),
        StateBlock("d", (4,), 0, (), ()),
        StateBlock("e", (5,), 0, (0, 2), (0, 3)),
    ),
    4,
)
SHAPES = (
    NetworkConfig(components=2, layers=3, hidden=6, last_layer_scale=1.0),
    NetworkConfig(components=1, layers=1, hidden=1, last_layer_scale=1.0),
    NetworkConfig(components=9, layers=2, hidden=33, last_layer_scale=1.0),
    NetworkConfig(last_layer_scale=0.3),
)


def problem(config, rows, seed=0):
    """Networks in single and in double precision, what they read, and residuals."""
    generator = torch.Generator().manual_seed(seed)
    single = Conditioner(STRUCTURE, config, generator)
    exact = copy.deepcopy(single).double()
    columns = STRUCTURE.free_dim
    read = torch.randn(rows, columns + STRUCTURE.observed_dim, generator=generator)
    residual = torch.randn(rows, columns, generator=generator)
    return single, exact, read, residual


def gradients(conditioner, found, bar, *more):
    """Of all parameters and more, those of none as zeros."""
    return torch.autograd.grad(
        found, [*more, *conditioner.parameters()], bar, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip


def assert_close(found, exact):
    for one, other in zip(found, exact, strict=True):
        scale = other.abs().max() if other.numel() else 1.0
        torch.testing.assert_close(
            one.double(), other, rtol=1e-4, atol=1e-5 * float(scale)
        )


@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("rows", [0, 1, 16, 150, 300])
def test_densities_and_gradients_are_those_of_autograd(config, rows):
    single, exact, read, residual = problem(config, rows)
    found = FusedDensity()(single, read, residual)
    expected = exact.log_prob(read.double(), residual.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    bar = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    assert_close(
        gradients(single, found, bar), gradients(exact, expected, bar.double())
    )


@pytest.mark.parametrize("even", [True, False])
def test_gradients_found_with_the_densities_are_the_same(even):
    """Those of the sum; where something else is differentiated, that of it."""
    single, exact, read, residual = problem(SHAPES[0], 70)
    found = FusedDensity(for_mean=True)(single, read, residual)
    expected = exact.log_prob(read.double(), residual.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    bar = torch.full(found.shape, -0.25)
    if not even:
        bar[3, 1] = 1.0
    assert_close(
        gradients(single, found, bar), gradients(exact, expected, bar.double())
    )


@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("rows", [0, 1, 150])
@pytest.mark.parametrize("for_mean", [True, False])
@pytest.mark.parametrize("even", [True, False])
def test_gradients_by_what_is_read_are_those_of_autograd(config, rows, for_mean, even):
    single, exact, read, residual = problem(config, rows)
    read.requires_grad_()
    twin = read.detach().double().requires_grad_()
    found = FusedDensity(for_mean=for_mean)(single, read, residual)
    expected = exact.log_prob(twin, residual.double())
    bar = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    if even:
        bar = torch.full(found.shape, 0.5)
    assert_close(
        gradients(single, found, bar, read),
        gradients(exact, expected, bar.double(), twin),
    )


def test_results_depend_neither_on_threads_nor_on_batch_mates(monkeypatch):
    monkeypatch.setattr("flows.autoregressive.fused.differentiable._LEAST_WORK", 1)
    single, _, read, residual = problem(SHAPES[3], 200)
    ones = torch.ones(200, STRUCTURE.free_dim)
    one, four = (FusedDensity(threads)(single, read, residual) for threads in (1, 4))
    assert (one == four).all()
    for left, right in zip(
        gradients(single, one, ones), gradients(single, four, ones), strict=True
    ):
        assert (left == right).all()
    assert (FusedDensity()(single, read[7:9], residual[7:9]) == one[7:9]).all()


def test_densities_far_out_are_finite():
    single, exact, read, residual = problem(SHAPES[0], 32)
    residual = 1e6 * residual
    found = FusedDensity()(single, read, residual)
    expected = exact.log_prob(read.double(), residual.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    one = FusedDensity()(single, read, torch.full_like(residual, torch.nan))
    assert one.isnan().all()


def test_what_the_kernel_does_not_do_is_left_to_torch(monkeypatch):
    """Double precision, and gradients by residuals."""

    class Nothing:
        def __getattr__(self, name):
            raise AssertionError(name)

    single, exact, read, residual = problem(SHAPES[0], 8)
    expected = single.log_prob(read, residual)
    monkeypatch.setattr(KERNEL, "compiled", Nothing(), raising=False)
    precise = FusedDensity()(exact, read.double(), residual.double())
    torch.testing.assert_close(precise.float(), expected)
    residual.requires_grad_()
    found = FusedDensity()(single, read, residual)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found.sum(), residual)[0].abs().max() > 0.0


def test_a_flow_without_columns_has_no_densities():
    nothing = Structure((), 1)
    conditioner = Conditioner(nothing, NetworkConfig(), torch.Generator())
    for even in (True, False):
        found = FusedDensity(for_mean=even)(
            conditioner, torch.zeros(5, 1), torch.zeros(5, 0)
        )
        assert found.shape == (5, 0)
        found.sum().backward()


@pytest.mark.parametrize("shift", [1e6, 1e8])
def test_residuals_count_beside_large_logits(shift):
    """A constant added to all logits changes nothing."""
    single, exact, read, residual = problem(SHAPES[0], 64)
    for each in (single, exact):
        with torch.no_grad():
            each.last[..., :2] = 0.0
            each.last_bias[:, :2] = shift if each is single else 0.0
    found = FusedDensity()(single, read, residual)
    expected = exact.log_prob(read.double(), residual.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    bar = torch.ones(found.shape)
    wanted = gradients(exact, expected, bar.double())
    assert_close(gradients(single, found, bar), wanted)


@pytest.mark.parametrize("raw", [-15.0, -7.0, -4.0, 0.0, 5.0])
def test_narrow_components_keep_their_digits(raw):
    single, exact, read, residual = problem(SHAPES[1], 100)
    for each in (single, exact):
        with torch.no_grad():
            each.last.zero_()
            each.last_bias[:, 2] = raw
    residual = 3e-3 * residual
    found = FusedDensity()(single, read, residual)
    expected = exact.log_prob(read.double(), residual.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", range(6))
def test_a_nan_among_the_outputs_is_a_nan(output):
    single, _, read, residual = problem(SHAPES[0], 20)
    with torch.no_grad():
        single.last_bias[:, output] = torch.nan
    assert FusedDensity()(single, read, residual).isnan().all()


def test_wrong_shapes_are_refused():
    single, _, read, residual = problem(SHAPES[0], 8)
    density = FusedDensity()
    density(single, read, residual)
    for wrong in (
        (read, residual[:, :2]),
        (read[:, :3], residual),
        (read[:5], residual),
    ):
        with pytest.raises(ValueError, match="shapes; expected read"):
            density(single, *wrong)
