"""Tests of flows.inference.summary."""

import json
import math

import pytest
import torch

from flows.inference.particles import Particles
from flows.model.layout import Variable

from .targets import weighed_chain


def test_the_summary_says_what_the_particles_say_and_is_json():
    particles, mean, covariance, exact = weighed_chain(20_000, widen=1.2)
    summary = particles.summary()
    assert [latent.label for latent in summary.latents] == ["z0", "z1"]
    assert [latent.name for latent in summary.latents] == ["sample0", "sample1"]
    for i, latent in enumerate(summary.latents):
        sd = math.sqrt(covariance[i, i])
        assert abs(latent.mean - mean[i]) < 4 * latent.mean_standard_error
        assert latent.sd == pytest.approx(sd, rel=0.03)
        assert latent.quantile_05 == pytest.approx(mean[i] - 1.645 * sd, abs=0.05 * sd)
        assert latent.median == pytest.approx(mean[i], abs=0.05 * sd)
        assert latent.quantile_95 == pytest.approx(mean[i] + 1.645 * sd, abs=0.05 * sd)
    assert abs(summary.log_evidence - exact) < 4 * summary.log_evidence_standard_error
    assert summary.cautions == ()
    plain = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert plain["latents"][1]["label"] == "z1"
    assert plain["ess"] == summary.ess


def test_the_summary_of_particles_without_weight_is_json_too():
    particles = Particles.from_draws(
        torch.zeros((50, 1), dtype=torch.float64),
        torch.full((50,), -math.inf, dtype=torch.float64),
        (Variable("sample0", "z0", (), 0, 1),),
    )
    plain = json.loads(json.dumps(particles.summary().to_json(), allow_nan=False))
    assert plain["log_evidence"] is None
    assert plain["ess"] == 0.0
    assert plain["latents"] == []
    assert len(plain["cautions"]) == 1


def test_a_summary_prints_as_a_table_with_every_figure_and_caution():
    z = Variable("sample0", "height\n", (), 0, 1)
    latents = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    summary = Particles.from_draws(latents, weights, [z]).summary()
    lines = str(summary).splitlines()
    assert lines[0].split() == [
        "latent",
        "mean",
        "±",
        "MC",
        "sd",
        "5",
        "%",
        "median",
        "95",
        "%",
    ]
    (latent,) = summary.latents
    assert lines[1].split() == [
        "height\\n",
        "2.5",
        f"{latent.mean_standard_error:.4g}",
        f"{latent.sd:.4g}",
        "1",
        "3",
        "3",
    ]
    assert lines[2].startswith("log evidence  -0.693147 ± ")
    assert lines[3] == "ESS / N       0.8 of 2 particles"
    assert lines[4] == "Pareto k-hat  nan"
    assert [line.removeprefix("caution: ") for line in lines[5:]] == [
        str(caution) for caution in summary.cautions
    ]
    assert len(lines) == 6
