"""Tests of flows.cnf.fused.engine: the fused engine against float64 autograd."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch

from flows.cnf.fused.compile import KERNEL
from flows.cnf.fused.engine import solve_fused
from flows.cnf.fused.plan import make_plan
from flows.cnf.fused.preparation import FieldParameters
from flows.flow.structure import StateBlock, Structure

# The oracle below is written from the definitions: dense float64 matrices, the
# divergence from autograd's full Jacobian, gradients by autograd through the steps.


def random_structure(rng, sizes, observed_dim, edge_probability=0.6):
    blocks = []
    for i, size in enumerate(sizes):
        parents = tuple(j for j in range(i) if rng.random() < edge_probability)
        observed = tuple(c for c in range(observed_dim) if rng.random() < 0.6)
        blocks.append(StateBlock(f"z{i}", (i,), size - 1, parents, observed))
    return Structure(tuple(blocks), observed_dim)


def random_parameters(rng, structure, hidden, layers):
    sizes = [block.size for block in structure.blocks]
    widths = [sizes, *[list(hidden)] * (layers - 1), sizes]
    weights = []
    for inputs, outputs in pairwise(widths):
        parts = []
        for i, block in enumerate(structure.blocks):
            columns = [*block.latent_parents, i]
            fan = sum(inputs[j] for j in columns)
            parts += [
                rng.normal(size=outputs[i] * inputs[j]) / np.sqrt(fan) for j in columns
            ]
        weights.append(np.concatenate(parts))
    observed = np.concatenate(
        [
            rng.normal(size=h * len(block.observed_columns)) * 0.5
            for h, block in zip(hidden, structure.blocks, strict=True)
        ]
    )
    features = (layers - 1) * sum(hidden) + sum(sizes)
    vectors = [rng.normal(size=features) * 0.5 for _ in range(4)]
    tensors = [torch.tensor(a.astype(np.float32)) for a in (*weights, observed)]
    vectors = [torch.tensor(a.astype(np.float32)) for a in vectors]
    return FieldParameters(tuple(tensors[:-1]), tensors[-1], *vectors)


def all_tensors(parameters):
    return [
        *parameters.weights,
        parameters.observed_weight,
        parameters.bias,
        parameters.time_bias,
        parameters.gate_rate,
        parameters.gate_offset,
    ]


def leaves(parameters, dtype):
    tensors = [t.detach().to(dtype).requires_grad_() for t in all_tensors(parameters)]
    count = len(parameters.weights)
    return FieldParameters(tuple(tensors[:count]), *tensors[count:])


def dense_matrices(structure, hidden, parameters):
    """Dense weights per layer, and those on observed columns."""
    sizes = [block.size for block in structure.blocks]
    layers = len(parameters.weights)
    widths = [sizes, *[list(hidden)] * (layers - 1), sizes]
    matrices = []
    for (inputs, outputs), packed in zip(
        pairwise(widths), parameters.weights, strict=True
    ):
        lines = []
        at = 0
        for i, block in enumerate(structure.blocks):
            line = [packed.new_zeros(outputs[i], n) for n in inputs]
            for j in (*block.latent_parents, i):
                count = outputs[i] * inputs[j]
                line[j] = packed[at : at + count].reshape(outputs[i], inputs[j])
                at += count
            lines.append(torch.cat(line, 1))
        assert at == packed.numel()
        matrices.append(torch.cat(lines, 0))
    lines = []
    at = 0
    for h, block in zip(hidden, structure.blocks, strict=True):
        columns = list(block.observed_columns)
        count = h * len(columns)
        part = parameters.observed_weight[at : at + count].reshape(h, -1)
        at += count
        line = part.new_zeros(h, structure.observed_dim)
        if columns:
            line = line.index_copy(1, torch.tensor(columns), part)
        lines.append(line)
    return matrices, torch.cat(lines, 0)


def oracle(structure, hidden, parameters, residual, state, observed, sign, num_steps):
    matrices, on_observed = dense_matrices(structure, hidden, parameters)
    widths = [m.shape[0] for m in matrices]
    bias, drift, rate, offset = (
        torch.split(v, widths)
        for v in (
            parameters.bias,
            parameters.time_bias,
            parameters.gate_rate,
            parameters.gate_offset,
        )
    )
    node = torch.tensor(
        [i for i, block in enumerate(structure.blocks) for _ in range(block.size)]
    )

    def gates(t):
        return [torch.sigmoid(g * t + k) for g, k in zip(rate, offset, strict=True)]

    def field(z, t, x):
        """Velocity, and the hidden layers' slopes."""
        u = z
        slopes = []
        for l, (matrix, gate) in enumerate(zip(matrices, gates(t), strict=True)):
            linear = matrix @ u + bias[l] + (on_observed @ x if l == 0 else 0.0)
            a = linear * gate + drift[l] * t
            if l == len(matrices) - 1:
                return a, slopes
            slopes.append(gate * (1 - torch.tanh(a) ** 2))
            u = torch.tanh(a) + (u if residual and l > 0 else 0.0)
        raise AssertionError("no layers")

    def traces(slopes, t):
        """Diagonal blocks' traces of the dense Jacobian with these slopes."""
        jacobian = slopes[0][:, None] * matrices[0]
        for slope, matrix in zip(slopes[1:], matrices[1:-1], strict=True):
            step = slope[:, None] * (matrix @ jacobian)
            jacobian = jacobian + step if residual else step
        diagonal = gates(t)[-1] * (matrices[-1] * jacobian.T).sum(1)
        zeros = torch.zeros(len(structure.blocks), dtype=diagonal.dtype)
        return zeros.index_add(0, node, diagonal)

    def one_row(z, sign, x):
        ends = [1 - (1 - n / num_steps) ** 1.3 for n in range(num_steps + 1)]
        seen: dict[int, list] = {}
        for n in range(num_steps):
            t0, t1 = (
                torch.where(sign > 0, ends[a], ends[num_steps - a]).to(z)
                for a in (n, n + 1)
            )
            h, middle = t1 - t0, (t0 + t1) / 2
            k1, d1 = field(z, t0, x)
            k2, d2 = field(z + h / 2 * k1, middle, x)
            k3, d3 = field(z + h / 2 * k2, middle, x)
            k4, d4 = field(z + h * k3, t1, x)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            for place, t, weight, slopes in (
                (2 * n, t0, h / 6, d1),
                (2 * n + 1, middle, h / 3, d2),
                (2 * n + 1, middle, h / 3, d3),
                (2 * n + 2, t1, h / 6, d4),
            ):
                seen.setdefault(place, []).append((t, weight, slopes))
        total = torch.zeros(len(structure.blocks), dtype=z.dtype)
        for stages in seen.values():
            weight = sum(w for _, w, _ in stages)
            mean = [
                sum(w / weight * slopes[l] for _, w, slopes in stages)
                for l in range(len(matrices) - 1)
            ]
            total = total + weight * traces(mean, stages[0][0])
        return z, total

    return torch.vmap(one_row)(state, sign, observed)


def problem(seed, sizes, hidden, layers, batch, observed_dim=2, edges=0.6):
    rng = np.random.default_rng(seed)
    structure = random_structure(rng, sizes, observed_dim, edges)
    parameters = random_parameters(rng, structure, hidden, layers)
    state = torch.tensor(rng.normal(size=(batch, sum(sizes))).astype(np.float32))
    observed = torch.tensor(rng.normal(size=(batch, observed_dim)).astype(np.float32))
    sign = torch.tensor(rng.choice([-1.0, 1.0], size=batch).astype(np.float32))
    pulls = (
        torch.tensor(rng.normal(size=(batch, sum(sizes))).astype(np.float32)),
        torch.tensor(rng.normal(size=(batch, len(sizes))).astype(np.float32)),
    )
    return structure, parameters, state, observed, sign, pulls


CASES = [
    # sizes, hidden, layers, residual, batch
    ((1,), (1,), 2, False, 1),
    ((1,), (4,), 3, False, 17),
    ((1, 1), (8, 8), 4, False, 5),
    ((1, 1, 1, 1), (16, 16, 16, 16), 4, True, 19),
    ((2, 2, 2), (4, 4, 4), 2, True, 33),
    ((2, 2, 2, 2), (8, 8, 8, 8), 3, True, 9),
    ((3, 3, 3), (3, 3, 3), 4, False, 40),
    ((3, 3, 3, 3, 3, 3, 3, 3), (4, 4, 4, 4, 4, 4, 4, 4), 3, False, 7),
    ((11, 11, 11), (11, 11, 11), 4, False, 21),
    ((11, 11), (11, 11), 4, True, 18),
    ((11, 11), (11, 11), 3, True, 18),
    ((4, 4), (2, 2), 5, True, 6),
    ((2, 1, 3), (5, 1, 14), 4, True, 23),
    ((1, 5, 2, 13), (3, 25, 1, 6), 3, True, 18),
    ((1, 5, 2, 13), (3, 25, 1, 6), 2, False, 18),
    ((1, 4, 2), (9, 4, 1), 5, False, 18),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_loss_and_gradients_equal_float64_autograd(case):
    sizes, hidden, layers, residual, batch = CASES[case]
    structure, parameters, state, observed, sign, pulls = problem(
        case, sizes, hidden, layers, batch
    )
    plan = make_plan(structure, hidden, layers, residual=residual)
    exact, start64 = leaves(parameters, torch.float64), state.double().requires_grad_()
    expected = oracle(
        structure, hidden, exact, residual, start64, observed.double(), sign.double(), 3
    )
    loss64 = sum(
        (pull.double() * out).sum() for pull, out in zip(pulls, expected, strict=True)
    )
    wanted = torch.autograd.grad(loss64, [start64, *all_tensors(exact)])
    single, start = leaves(parameters, torch.float32), state.clone().requires_grad_()
    found = solve_fused(plan, single, start, observed, sign, 3)
    loss = sum((pull * out).sum() for pull, out in zip(pulls, found, strict=True))
    gradients = torch.autograd.grad(loss, [start, *all_tensors(single)])
    for value, target in zip(found, expected, strict=True):
        torch.testing.assert_close(value.double(), target, rtol=1e-5, atol=1e-5)
    size = sum(
        (p.double() * o).abs().sum() for p, o in zip(pulls, expected, strict=True)
    )
    assert abs(loss.item() - loss64.item()) <= 1e-5 * size.item()
    for gradient, target in zip(gradients, wanted, strict=True):
        error = (gradient.double() - target).norm()
        assert error <= 1e-5 * target.norm() + 1e-12, (case, error, target.norm())


def run_all(plan, parameters, state, observed, sign, pulls, **options):
    """Ends, log-determinants and all gradients."""
    single, start = leaves(parameters, torch.float32), state.clone().requires_grad_()
    found = solve_fused(plan, single, start, observed, sign, 4, **options)
    loss = sum((pull * out).sum() for pull, out in zip(pulls, found, strict=True))
    return [*found, *torch.autograd.grad(loss, [start, *all_tensors(single)])]


@pytest.fixture(scope="module")
def large():
    """A problem of several packs in each direction, with its plan."""
    hidden = (5, 3, 6)
    data = problem(50, (2, 1, 3), hidden, 4, 600)
    return make_plan(data[0], hidden, 4, residual=True), data


def test_equal_inputs_give_equal_bits_whatever_the_threads(large):
    plan, (_, *arguments) = large
    first = run_all(plan, *arguments)
    for threads in (1, 2, 3):
        again = run_all(plan, *arguments, num_threads=threads)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("case", range(len(CASES)))
def test_parts_that_are_left_out_change_nothing_else(case):
    sizes, hidden, layers, residual, batch = CASES[case]
    structure, parameters, state, observed, sign, (pull, _) = problem(
        case, sizes, hidden, layers, batch
    )
    plan = make_plan(structure, hidden, layers, residual=residual)

    def gradients(*, learned, with_log_det):
        single, start = leaves(parameters, torch.float32), state.clone()
        inputs = [start.requires_grad_(), *all_tensors(single)]
        for tensor in inputs[1:]:
            tensor.requires_grad_(learned)
        end, log_det = solve_fused(
            plan, single, start, observed, sign, 3, with_log_det=with_log_det
        )
        wanted = inputs if learned else inputs[:1]
        return end, log_det, torch.autograd.grad((pull * end).sum(), wanted)

    end, log_det, every = gradients(learned=True, with_log_det=True)
    bare, nothing, without = gradients(learned=True, with_log_det=False)
    assert torch.equal(end, bare)
    assert not nothing.any()
    assert log_det.any()
    for one, other in zip(every, without, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    _, _, (start,) = gradients(learned=False, with_log_det=True)
    assert torch.equal(start, every[0])


def test_weights_without_gradients_leave_those_of_the_start_alone(large):
    plan, (_, parameters, state, observed, sign, pulls) = large
    start = state.clone().requires_grad_()
    found = solve_fused(plan, parameters, start, observed, sign, 4)
    loss = sum((pull * out).sum() for pull, out in zip(pulls, found, strict=True))
    (got,) = torch.autograd.grad(loss, [start])
    wanted = run_all(plan, parameters, state, observed, sign, pulls)[2]
    assert torch.equal(got, wanted)


def test_a_row_does_not_depend_on_its_batch_mates(large):
    plan, (_, parameters, state, observed, sign, _) = large
    together = solve_fused(plan, parameters, state, observed, sign, 4)
    for rows in (slice(0, 1), slice(3, 20), slice(599, 600)):
        alone = solve_fused(
            plan, parameters, state[rows], observed[rows], sign[rows], 4
        )
        for part, whole in zip(alone, together, strict=True):
            assert torch.equal(part, whole[rows])


def test_a_non_finite_row_leaves_the_others_alone(large):
    plan, (_, parameters, state, observed, sign, _) = large
    expected = solve_fused(plan, parameters, state, observed, sign, 4)
    broken = state.clone()
    broken[7] = torch.nan
    found = solve_fused(plan, parameters, broken, observed, sign, 4)
    others = torch.arange(600) != 7
    for part, whole in zip(found, expected, strict=True):
        assert part[7].isnan().any()
        assert torch.equal(part[others], whole[others])


def test_stage_inputs_are_not_kept_without_gradients(large):
    plan, (_, parameters, state, observed, sign, _) = large
    single = leaves(parameters, torch.float32)
    peaks = []
    for enabled in (False, True):
        tracemalloc.start()
        with torch.set_grad_enabled(enabled):
            end, _ = solve_fused(plan, single, state, observed, sign, 500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert end.requires_grad == enabled
    stage_inputs = 4 * state.numel() * 4 * 500
    assert peaks[0] < 0.2 * stage_inputs
    assert peaks[1] > stage_inputs


def test_no_rows_give_no_rows_and_zero_gradients(large):
    plan, (_, parameters, state, observed, sign, pulls) = large
    none = [t[:0] for t in (state, observed, sign)]
    result = run_all(plan, parameters, *none, [pull[:0] for pull in pulls])
    assert result[0].shape == (0, 6)
    assert result[1].shape == (0, 3)
    assert all(not gradient.any() for gradient in result[2:])


def test_wrong_arguments_are_named(large):
    plan, (structure, parameters, state, observed, sign, _) = large
    with pytest.raises(ValueError, match="precision or device; expected float32"):
        solve_fused(plan, parameters, state.double(), observed, sign, 4)
    with pytest.raises(ValueError, match="without requires_grad"):
        solve_fused(plan, parameters, state, observed.clone().requires_grad_(), sign, 4)
    with pytest.raises(ValueError, match="at least 1 step"):
        solve_fused(plan, parameters, state, observed, sign, 0)
    with pytest.raises(ValueError, match="signs of"):
        solve_fused(plan, parameters, state, observed, 2 * sign, 4)
    with pytest.raises(ValueError, match="expected state"):
        solve_fused(plan, parameters, state[:, 1:], observed, sign, 4)
    with pytest.raises(ValueError, match="expected at least 2 layers"):
        make_plan(structure, (1, 1, 1), 1, residual=False)


def test_one_compilation_serves_every_shape():
    for case, (sizes, hidden, layers, residual, batch) in enumerate(CASES[:5]):
        structure, *arguments = problem(case, sizes, hidden, layers, batch)
        plan = make_plan(structure, hidden, layers, residual=residual)
        run_all(plan, *arguments)
    compiled = KERNEL.compiled
    for function in (
        compiled.fill_tables,
        compiled.adjoint_tables,
        compiled.solve_pack,
        compiled.adjoint_pack,
    ):
        assert len(function.signatures) == 1
