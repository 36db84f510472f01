"""Tests that what a trained flow answers is calibrated, on the programs of the demo."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from daphne_bridge.cli import main as bridge
from flows.artifact import Artifact
from flows.cli import main as flows
from flows.cnf.engine import AdaptiveEngine
from flows.command_input import load_graph, load_model
from flows.diagnosis import DiagnosisConfig, diagnose

from .test_evaluation import exact_flow

PROGRAMS = Path(__file__).parents[2] / "clj-programs"
LINEAR = ("gaussian_tree", "state_space")
"""Programs whose flow is exact before training; the circuit's is far from it."""


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
            call(flows, "train", graph, "-o", artifact, "--budget", "60s")
            checked = load_graph(graph)
            model = load_model(checked)
            flow = Artifact.load(artifact).flow_for(checked, model.layout)
            # Ranks know nothing of the sixth digit.
            flow.engine = AdaptiveEngine(1e-4)
            made[name] = model, flow
        return made[name]

    return get


def diagnosed(model, flow):
    *_, last = diagnose(model, flow, DiagnosisConfig(1000, 100, seed=7))
    return last.result


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LINEAR, "arithmetic_circuit"])
def test_weighted_draws_are_calibrated_over_1000_data_sets(trained, name):
    found = diagnosed(*trained(name))
    assert found.is_weighted_calibrated
    assert found.is_calibrated or name not in LINEAR


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_a_flow_with_one_weight_shifted_fails(tmp_path, name):
    graph = tmp_path / "graph.json"
    call(bridge, "compile", PROGRAMS / f"{name}.daphne", "-o", graph)
    model, flow = exact_flow(load_graph(graph), 0.0)
    flow.engine = AdaptiveEngine(1e-4)
    # Of the last layer's first unit, which moves the first latent by a deviation.
    with torch.no_grad():
        flow.field.bias[-flow.structure.state_dim] += 2.0
    assert not diagnosed(model, flow).is_calibrated
