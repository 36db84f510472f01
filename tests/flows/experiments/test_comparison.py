"""Tests of flows.experiments.comparison."""

from dataclasses import asdict, replace

import pytest
import torch

from daphne_bridge.inversion.elimination_plans import PUBLISHED
from daphne_bridge.inversion.nami import invert
from flows.cnf.baselines import BASELINES
from flows.cnf.engine import AdaptiveEngine, TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.experiments import comparison
from flows.experiments.comparison import (
    OBJECTIVES,
    ComparisonConfig,
    Measurement,
    band,
    compare_objectives,
    compare_structures,
    measure,
)
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.training.estimates import Estimate
from tests.flows.cnf.models import gaussian_tree

from .programs import program

SHORT = ComparisonConfig(
    iterations=2, checkpoints=1, num_seeds=2, num_draws=10, baseline_steps=2
)


@pytest.fixture(scope="module")
def circuit():
    graph = program("arithmetic_circuit")
    model = Model.from_graph(graph)
    return model, build_structure(invert(graph, plans=PUBLISHED), model.layout, 1)


def test_the_band_is_the_median_with_the_outer_quantiles():
    found = band([float(n) for n in range(101)][::-1])
    assert found == pytest.approx({"median": 50.0, "low": 16.0, "high": 84.0})


def test_runs_are_measured_at_equal_distances():
    config = ComparisonConfig(100, 4, 1, 10, 2)
    assert config.measured == (0, 25, 50, 75, 100)


def test_all_networks_are_trained_and_measured_alike(circuit):
    notes = []
    numbers = compare_structures(*circuit, SHORT, engine=TorchEngine, note=notes.append)
    assert numbers["iterations"] == [0, 2]
    assert tuple(numbers["networks"]) == BASELINES
    for network in numbers["networks"].values():
        assert len(network["j"]) == len(network["to_base"]) == 2
        assert network["j"][0]["low"] <= network["j"][0]["high"]
        assert network["not_finite"] == [0, 0]
        assert all(moment["median"] > 0 for moment in network["to_latent"])
    assert len(notes) == len(BASELINES) * 2
    # two of the twelve edges' ends are 2 x 2 blocks: counted by hand
    full = numbers["networks"]["full"]
    assert full["multiply_adds"] == 12 * (12 + 2 + 1) + 3 * 12 * 12
    faithful = numbers["networks"]["faithful"]
    assert faithful["multiply_adds"] == 4 * (9 + 6) * 4 + 3 * 2


def test_all_objectives_are_compared_from_equal_starts(circuit):
    numbers = compare_objectives(
        *circuit, SHORT, engine=TorchEngine, note=lambda _: None
    )
    curves = numbers["objectives"]
    assert set(curves) == set(OBJECTIVES)
    starts = {curve["j"][0]["median"] for curve in curves.values()}
    ends = {curve["j"][1]["median"] for curve in curves.values()}
    assert len(starts) == 1
    assert len(ends) == 3


def test_an_interrupted_comparison_goes_on_and_ends_where_it_would_have(
    circuit, tmp_path, monkeypatch
):
    config = replace(SHORT, checkpoints=2, num_seeds=1)

    def compared(note, kept):
        return compare_structures(
            *circuit, config, engine=TorchEngine, note=note, kept=kept
        )

    def interrupt(text):
        raise KeyboardInterrupt

    def measured_twice(*arguments):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(measure(*arguments))
        return seen[-1]

    seen = []
    whole = compared(lambda _: None, None)
    monkeypatch.setattr(comparison, "measure", measured_twice)
    with pytest.raises(KeyboardInterrupt):
        compared(interrupt, tmp_path)
    monkeypatch.undo()
    (place,) = tmp_path.iterdir()
    assert torch.load(place)["state"]["training"]["iteration"] == 1
    with pytest.raises(KeyboardInterrupt):
        compared(interrupt, tmp_path)
    assert torch.load(place)["state"]["training"]["iteration"] == 2
    so_far = compare_structures(
        *circuit,
        config,
        engine=TorchEngine,
        note=interrupt,
        kept=tmp_path,
        so_far=True,
    )
    (name,) = so_far["networks"]
    assert so_far["networks"][name]["seeds"] == [1, 1, 1]
    assert so_far["networks"][name] == whole["networks"][name]
    assert compared(lambda _: None, tmp_path) == whole
    monkeypatch.setattr(comparison, "measure", interrupt)  # nothing is left to do
    assert compared(lambda _: None, tmp_path) == whole


def test_curves_so_far_are_of_the_seeds_that_have_come_there():
    def reached(*values):
        return [
            Measurement.from_values(
                {
                    "j": {
                        part: asdict(Estimate(value, 0.0, 1, 0, value, value))
                        for part in ("symmetric", "forward", "reverse")
                    },
                    "to_latent": 1,
                    "to_base": 2,
                }
            )
            for value in values
        ]

    curves = comparison._curves([reached(9.0, 4.0), [], reached(7.0)])
    assert curves["seeds"] == [2, 1]
    assert curves["j_of_seeds"] == [[9.0, 4.0], [7.0]]
    assert [moment["median"] for moment in curves["j"]] == [8.0, 4.0]


def test_a_measurement_is_the_exact_divergence_of_a_gaussian_flow():
    model, structure = gaussian_tree()
    flow = build_flow(structure, FieldConfig(layers=2, hidden=0)).double()
    generator = torch.Generator().manual_seed(0)
    draws = model.sample(50_000, generator=generator)
    flow.normalisation.fit(draws.latents, draws.observed)
    with torch.no_grad():
        for parameter in flow.field.parameters():
            parameter.zero_()
    # without a field the affine layer alone is the posterior, and J is 0
    found = measure(model, flow.float(), AdaptiveEngine(1e-6), 500)
    assert abs(found.j.symmetric.mean) < 5 * found.j.symmetric.standard_error + 1e-3
    assert found.to_latent > 0
    assert found.to_base > 0
