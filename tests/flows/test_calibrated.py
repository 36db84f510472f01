"""Tests that what a trained flow answers is calibrated, on the programs of the demo.

A test draws and scores 100,000 particles. They are solved with fixed steps in single
precision, which takes a tenth of the time of the adaptive solve and gives the same
densities to a hundredth of a nat; that it does is a test here.
"""

import copy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from daphne_bridge.cli import main as bridge
from flows.cli import main as flows
from flows.cnf.engine import AdaptiveEngine
from flows.cnf.fused.engine import FusedEngine
from flows.cnf.solve import Solution
from flows.commands.inputs import load_model
from flows.commands.model_argument import load_any
from flows.measurement.diagnosis import DiagnosisConfig, diagnose
from flows.storage.artifact import Artifact

from .measurement.test_evaluation import exact_flow

PROGRAMS = Path(__file__).parents[2] / "clj-programs"
LINEAR = ("gaussian_tree", "state_space")
"""Programs whose flow is exact before training; the circuit's is far from it."""


SECONDS = {"gaussian_tree": 10, "state_space": 10, "arithmetic_circuit": 30}
"""Of training."""


class SinglePrecision:
    """Solves a float64 flow with 24 fixed steps in float32."""

    is_exact = True

    def __init__(self, flow):
        self._field = copy.deepcopy(flow.field).float()
        self._engine = FusedEngine(24)

    def solve(self, field, start, observed, sign, *, with_log_det=True):
        with torch.no_grad():
            found = self._engine.solve(
                self._field, start.float(), observed.float(), sign.float()
            )
        evaluations = found.num_evaluations
        return Solution(found.state.double(), found.log_det.double(), evaluations)


def call(command, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Make models and flows of short training, each once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            graph, artifact = folder / "graph.json", folder / "artifact"
            call(bridge, "compile", PROGRAMS / f"{name}.daphne", "-o", graph)
            budget = f"{SECONDS[name]}s"
            plain = ("--kind", "cnf", "--integrate", "none")
            call(flows, "train", graph, "-o", artifact, "--budget", budget, *plain)
            checked = load_any(graph).graph
            model = load_model(graph)
            flow = Artifact.load(artifact).flow_for(checked, model.layout)
            flow.engine = SinglePrecision(flow)
            made[name] = model, flow
        return made[name]

    return get


def diagnosed(model, flow):
    *_, last = diagnose(model, flow, DiagnosisConfig(1000, 100, seed=7))
    return last.result


@pytest.mark.slow
@pytest.mark.parametrize("name", SECONDS)
def test_single_precision_gives_the_densities_of_the_adaptive_solve(trained, name):
    model, flow = trained(name)
    generator = torch.Generator().manual_seed(3)
    base = flow.sample_base(500, generator=generator)
    observed = model.sample(500, generator=generator).observed
    with torch.no_grad():
        found = flow.base_to_latent(base, observed)
        precise = flow.solved_by(AdaptiveEngine(1e-7))
        exact = precise.base_to_latent(base, observed)
    # But for a row or two, where the flow is all but singular.
    gap = ((found[0] - exact[0]).abs() / (1.0 + exact[0].abs())).amax(1)
    assert float(gap.quantile(0.99)) < 1e-2
    assert float((found[2] - exact[2]).sum(1).abs().quantile(0.99)) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", SECONDS)
def test_weighted_draws_are_calibrated_over_1000_data_sets(trained, name):
    found = diagnosed(*trained(name))
    assert found.is_weighted_calibrated
    assert found.is_calibrated or name not in LINEAR


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_a_flow_with_one_weight_shifted_fails(tmp_path, name):
    graph = tmp_path / "graph.json"
    call(bridge, "compile", PROGRAMS / f"{name}.daphne", "-o", graph)
    model, flow = exact_flow(load_any(graph).graph, 0.0)
    # Of the last layer's first unit, which moves the first latent by a deviation.
    with torch.no_grad():
        flow.field.bias[-flow.structure.state_dim] += 2.0
    flow.engine = SinglePrecision(flow)
    assert diagnosed(model, flow).is_calibrated is False
