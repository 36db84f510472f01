"""Tests of flows.cnf.engines: one law for every engine of the registry.

The oracle is written from the definitions: dense float64 matrices, 100 equal
Runge-Kutta steps, log-determinants from autograd's Jacobian of the whole map.
"""

import copy
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from flows.cnf import engines
from flows.cnf.engine import TorchEngine
from flows.cnf.engines import ENGINES, REGISTRY, EngineSettings, choose_engine
from flows.cnf.vector_field import FieldConfig
from flows.errors import ArgumentError
from flows.flow.structure import StateBlock, Structure

from .random_structures import case, random_field

SIGNS = torch.tensor([1.0, -1.0]).double()
FIXED = EngineSettings(num_steps=40)
SHARP = EngineSettings(tolerance=1e-9)


@dataclass(frozen=True)
class Law:
    """How an engine is made and how far it may be off.

    Args:
        error: of ends and log-determinants, and of gradients by their largest.
        mates: of a row with other batch mates; 0 for equal bits.
    """

    settings: EngineSettings
    error: float
    mates: float


LAWS = {
    "fused": Law(FIXED, 2e-5, 0.0),
    "torch": Law(FIXED, 1e-5, 1e-12),
    "cuda": Law(FIXED, 1e-5, 1e-12),
    "adaptive": Law(SHARP, 1e-6, 1e-7),
    "paper": Law(SHARP, 1e-6, 1e-7),
    "precise": Law(SHARP, 1e-6, 1e-7),
    "checked": Law(SHARP, 3e-4, 0.0),
    "trace": Law(SHARP, 1e-6, 1e-7),
}


def scalar():
    """One column, of which the paper's noise drops out."""
    structure = Structure((StateBlock("a", (0,), 0, (), (0, 2)),), 3)
    return structure, random_field(structure, 1, FieldConfig(layers=3, hidden=4))


@cache
def problem(name):
    """Structure, field, start and observed values of three rows each way."""
    structure, field = scalar() if name == "scalar" else case(name, 3)
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(2, 3, structure.state_dim, generator=generator).double()
    observed = torch.randn(2, 3, 3, generator=generator).double()
    return structure, field, start, observed


def matrices(structure, field):
    """Weights of all layers and of observed values, each block at its place."""
    state, hidden = structure.sizes, field.hidden
    places = [list(torch.arange(sum(s)).split(list(s))) for s in (state, hidden)]
    found = []
    last = len(field.weights) - 1
    for layer, packed in enumerate(field.weights):
        rows, columns = places[layer < last], places[layer > 0]
        dense = packed.new_zeros(sum(map(len, rows)), sum(map(len, columns)))
        at = 0
        for i, block in enumerate(structure.blocks):
            for j in (*block.latent_parents, i):
                count = len(rows[i]) * len(columns[j])
                part = packed[at : at + count].view(len(rows[i]), -1)
                dense = dense.index_put((rows[i][:, None], columns[j]), part)
                at += count
        found.append(dense)
    given = field.observed_weight.new_zeros(sum(hidden), structure.observed_dim)
    at = 0
    for rows, block in zip(places[1], structure.blocks, strict=True):
        columns = torch.tensor(block.observed_columns, dtype=torch.long)
        part = field.observed_weight[at : at + len(rows) * len(columns)]
        given = given.index_put((rows[:, None], columns), part.view(len(rows), -1))
        at += part.numel()
    return found, given


def exact(structure, field, start, observed):
    """Ends, log-determinants per node and Jacobians, differentiable."""
    weights, given = matrices(structure, field)
    widths = [len(weight) for weight in weights]
    vectors = (field.bias, field.time_bias, field.gate_rate, field.gate_offset)
    layers = list(zip(weights, *(v.split(widths) for v in vectors), strict=True))

    def velocity(z, t, x):
        u = z
        for l, (weight, bias, drift, rate, offset) in enumerate(layers):
            linear = weight @ u + bias + (given @ x if l == 0 else 0.0)
            a = linear * torch.sigmoid(rate * t + offset) + drift * t
            if l == len(layers) - 1:
                return a
            u = torch.tanh(a) + (u if field.config.residual and l > 0 else 0.0)
        raise AssertionError("no layers")

    def end(z, x, sign):
        h = 0.01
        for n in range(100):
            s0, s1, s2 = n * h, (n + 0.5) * h, (n + 1) * h
            t0, t1, t2 = ((s if sign > 0 else 1 - s) for s in (s0, s1, s2))
            k1 = sign * velocity(z, t0, x)
            k2 = sign * velocity(z + h / 2 * k1, t1, x)
            k3 = sign * velocity(z + h / 2 * k2, t1, x)
            k4 = sign * velocity(z + h * k3, t2, x)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return z, z

    node = torch.tensor(structure.state_node)
    ends, log_dets, jacobians = [], [], []
    for rows, values, sign in zip(start, observed, (1.0, -1.0), strict=True):
        jacobian, state = torch.vmap(
            torch.func.jacrev(lambda z, x, s=sign: end(z, x, s), has_aux=True)
        )(rows, values)
        blocks = [
            torch.linalg.slogdet(jacobian[:, node == i][:, :, node == i]).logabsdet
            for i in range(len(structure.blocks))
        ]
        ends.append(state)
        log_dets.append(torch.stack(blocks, -1))
        jacobians.append(jacobian)
    return torch.stack(ends), torch.stack(log_dets), torch.stack(jacobians)


@cache
def wanted(name):
    """Ends, log-determinants and gradients of a loss of both."""
    structure, field, start, observed = problem(name)
    leaf = start.clone().requires_grad_()
    state, log_det, _ = exact(structure, field, leaf, observed)
    inputs = [leaf, *field.parameters()]
    gradients = torch.autograd.grad(loss_of(state, log_det), inputs)
    return state.detach(), log_det.detach(), gradients


def loss_of(state, log_det):
    return state.square().sum() - (log_det * (1.0 + log_det.detach().sin())).sum()


def engine_of(name):
    entry = REGISTRY[name]
    missing = entry.missing(None)
    if missing:
        pytest.skip(f"no {missing}")
    return entry.make(LAWS[name].settings)


def placed(name, *values):
    """Fields and rows in the precision and on the device of an engine."""
    entry = REGISTRY[name]
    where = {"device": entry.device, "dtype": entry.dtype}
    return [
        copy.deepcopy(v) if hasattr(v, "parameters") else v.detach().to(**where)
        for v in values
    ]


def ready(name, which):
    """An engine, a field where it solves, and rows to be placed there."""
    engine = engine_of(name)
    _, field, start, observed = problem(which)
    (own,) = placed(name, field)
    own.to(REGISTRY[name].device)
    return engine, own, start, observed


def solve(name, engine, field, start, observed, sign=SIGNS):
    """A solve in the precision that the engine wants, its result in float64."""
    found = engine.solve(field, *placed(name, start, observed, sign))
    return found.state.detach().double().cpu(), found.log_det.detach().double().cpu()


def close(found, target, error):
    for one, other in zip(found, target, strict=True):
        torch.testing.assert_close(one.detach(), other, atol=error, rtol=error)


CASES = ("scalar", "scalars", "cliques", "residual", "vectors", "two layers")
EXACT = [
    (engine, name)
    for engine in REGISTRY
    for name in CASES
    if engine != "paper" or name == "scalar"  # its divergence is noisy
]


def test_every_engine_has_a_law():
    assert set(LAWS) == set(REGISTRY)


@pytest.mark.parametrize(("name", "which"), EXACT)
def test_ends_and_log_determinants_are_those_of_the_oracle(name, which):
    engine, own, start, observed = ready(name, which)
    found = solve(name, engine, own, start, observed)
    close(found, wanted(which)[:2], LAWS[name].error)


@pytest.mark.parametrize(
    ("name", "which"), [pair for pair in EXACT if REGISTRY[pair[0]].trains]
)
def test_loss_and_gradients_are_those_of_autograd_through_the_oracle(name, which):
    engine, own, start, observed = ready(name, which)
    state, log_det, gradients = wanted(which)
    first, given, sign = placed(name, start, observed, SIGNS)
    first.requires_grad_()
    solution = engine.solve(own, first, given, sign)
    loss = loss_of(solution.state, solution.log_det)
    target = float(loss_of(state, log_det))
    assert float(loss.detach()) == pytest.approx(target, rel=LAWS[name].error)
    found = torch.autograd.grad(loss, [first, *own.parameters()])
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    assert largest > 0.1
    for one, other in zip(found, gradients, strict=True):
        error = (one.double().cpu() - other).abs().max() if other.numel() else 0.0
        assert float(error) < LAWS[name].error * largest


@pytest.mark.parametrize(("name", "which"), EXACT)
def test_there_and_back_is_the_identity(name, which):
    engine, own, start, observed = ready(name, which)
    end, log_det = solve(name, engine, own, start, observed)
    again, back = solve(name, engine, own, end, observed, -SIGNS)
    close((again, back), (start, -log_det.detach()), 5 * LAWS[name].error)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_row_does_not_depend_on_its_batch_mates(name):
    which = "scalar" if name == "paper" else "residual"
    engine, own, start, observed = ready(name, which)
    mates = torch.cat([start, 5.0 * start[:, :2]], 1)
    values = torch.cat([observed, -observed[:, :2]], 1)
    whole = solve(name, engine, own, mates, values)
    alone = solve(name, engine, own, start[:, 1:2], observed[:, 1:2])
    close(alone, [part[:, 1:2].detach() for part in whole], LAWS[name].mates)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_node_depends_on_its_reach_alone(name):
    engine = engine_of(name)
    structure, field, start, observed = problem("cliques")
    (own,) = placed(name, field)
    own.to(REGISTRY[name].device)
    width, node = structure.state_dim, structure.state_node
    rows = start[:, :1] + 0.5 * torch.cat([torch.zeros(1, width), torch.eye(width)])
    values = observed[:, :1].expand(2, width + 1, 3)
    end, log_det = solve(name, engine, own, rows, values)
    moved = (end[:, 1:] - end[:, :1]).abs().amax(0)
    terms = (log_det[:, 1:] - log_det[:, :1]).abs().amax(0)
    for column, j in enumerate(node):
        for row, i in enumerate(node):
            is_moved = float(moved[column, row]) > LAWS[name].mates + 1e-12
            assert is_moved == (j in structure.reach[i])
        for i in range(len(structure.blocks)):
            if name != "paper" and j not in structure.reach[i]:
                assert float(terms[column, i]) <= LAWS[name].mates + 1e-12
    values = observed[:, :1] + 0.5 * torch.cat([torch.zeros(1, 3), torch.eye(3)])
    end, _ = solve(name, engine, own, start[:, :1].expand(2, 4, width), values)
    moved = (end[:, 1:] - end[:, :1]).abs().amax(0)
    for column in range(3):
        for row, i in enumerate(node):
            is_moved = float(moved[column, row]) > LAWS[name].mates + 1e-12
            assert is_moved == (column in structure.observed_reach[i])


def test_equal_rows_meet_equal_noise_in_the_papers_engine():
    _, field, start, observed = problem("cliques")
    one, other = (choose_engine("paper")(1) for _ in range(2))
    assert not one.is_exact
    found = [e.solve(field, start, observed, SIGNS).log_det for e in (one, other)]
    assert torch.equal(*found)
    sharper = one.with_steps(2).solve(field, start, observed, SIGNS).log_det
    torch.testing.assert_close(sharper, found[0], rtol=1e-4, atol=1e-4)
    assert float((found[0] - wanted("cliques")[1]).detach().abs().max()) > 0.01


def test_without_numba_torch_takes_over_and_fused_is_refused(monkeypatch):
    monkeypatch.setattr(engines, "_has_numba", lambda: False)
    assert choose_engine("auto")(7) == TorchEngine(7)
    assert not REGISTRY["fused"].is_available()
    with pytest.raises(ArgumentError, match=r"engine fused: .* expected Numba"):
        choose_engine("fused")


def test_without_a_gpu_its_engine_is_refused_and_torch_takes_over(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArgumentError, match=r"engine cuda: .* expected a GPU"):
        choose_engine("cuda", device="cuda")
    assert choose_engine("auto", device="cuda")(7) == TorchEngine(7)


@pytest.mark.parametrize(("name", "device"), [("fused", "cuda"), ("cuda", "cpu")])
def test_an_engine_of_another_device_is_refused(name, device):
    with pytest.raises(ArgumentError, match=f"engine {name}: .* got device {device}"):
        choose_engine(name, device=device)


@pytest.mark.parametrize("name", ["warp", "precise"])
def test_an_unknown_engine_is_refused(name):
    with pytest.raises(ArgumentError, match=f"expected one of {', '.join(ENGINES)}"):
        choose_engine(name)
