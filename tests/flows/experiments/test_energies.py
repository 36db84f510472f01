"""Tests of flows.experiments.energies: the programs are the published energies."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.experiments import energies
from flows.experiments.energies import EnergiesConfig, fit_energies, grid_of
from flows.experiments.lengths import LENGTHS
from flows.flow.kinds import for_weights
from flows.model.model import Model

PROGRAMS = Path(__file__).parents[3] / "clj-programs" / "energies"


def _bump(x):
    return np.exp(-0.5 * x**2)


def _u1(z1, z2):
    ring = 0.5 * ((np.hypot(z1, z2) - 2) / 0.4) ** 2
    return ring - np.log(_bump((z1 - 2) / 0.6) + _bump((z1 + 2) / 0.6))


def _u2(z1, z2):
    return 0.5 * ((z2 - np.sin(math.pi * z1 / 2)) / 0.4) ** 2


def _u3(z1, z2):
    away, bend = z2 - np.sin(math.pi * z1 / 2), 3 * _bump((z1 - 1) / 0.6)
    return -np.log(_bump(away / 0.35) + _bump((away + bend) / 0.35))


def _u4(z1, z2):
    away, step = z2 - np.sin(math.pi * z1 / 2), 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    return -np.log(_bump(away / 0.4) + _bump((away + step) / 0.35))


def _model(name):
    return Model.compile(PROGRAMS / f"{name}.daphne")


@pytest.mark.parametrize(
    ("name", "energy"), [("u1", _u1), ("u2", _u2), ("u3", _u3), ("u4", _u4)]
)
def test_density_of_a_program_is_that_of_its_energy(name, energy):
    model = _model(name)
    values = 3.0 * torch.rand(50, 2, dtype=torch.float64) - 1.5
    observed = model.observation().expand(50, -1)
    found = model.log_joint(values, observed).numpy()
    wanted = -energy(*values.numpy().T)
    constant = -1.0 - math.log(8 * 12)
    np.testing.assert_allclose(found, wanted + constant, atol=1e-9)


def test_quadrature_finds_the_divergence_of_what_is_fitted(monkeypatch):
    """A flow of length 0 is a normal, whose divergence is an average over its draws."""
    model = _model("u2")
    fitted = {"normal": energies.FITTED["diagonal normal"]}
    monkeypatch.setattr(energies, "FITTED", fitted)
    kept = []

    def weighed(flow):
        kept.append(for_weights(flow))
        return kept[-1]

    monkeypatch.setattr(energies, "for_weights", weighed)
    config = EnergiesConfig(iterations=30, continuous_iterations=1, points=150)
    numbers = fit_energies({"u2": model}, config, note=lambda text: None)
    energy = numbers["energies"]["u2"]
    found = energy["flows"]["normal"]
    assert found["mass"] == pytest.approx(1.0, abs=5e-3)
    (flow,) = kept
    observed = model.observation().expand(20_000, -1)
    with torch.no_grad():
        draw = flow.rsample_and_log_prob(
            observed, generator=torch.Generator().manual_seed(0)
        )
        target = model.log_joint_free(draw.free, observed)
        terms = draw.log_prob - target + energy["log_evidence"]
    error = float(terms.std()) / math.sqrt(20_000)
    assert found["kl"] == pytest.approx(float(terms.mean()), abs=4 * error + 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["u1", "u2", "u3", "u4"])
def test_many_planar_layers_are_five_times_nearer_than_a_normal(monkeypatch, name):
    kept = ("diagonal normal", "planar, 32")
    monkeypatch.setattr(energies, "FITTED", {key: energies.FITTED[key] for key in kept})
    found = fit_energies(
        {name: _model(name)}, LENGTHS["fast"].energies, note=lambda text: None
    )
    normal, planar = (found["energies"][name]["flows"][key]["kl"] for key in kept)
    assert planar < normal / 5.0


def test_evidence_of_the_wave_is_that_of_its_normals():
    """U2 given z1 is a normal in z2, so Z is the length of z1 times its constant."""
    wanted = math.log(8 * 0.4 * math.sqrt(2 * math.pi)) - 1.0 - math.log(8 * 12)
    assert grid_of(_model("u2"), 200).log_total == pytest.approx(wanted, abs=1e-6)
