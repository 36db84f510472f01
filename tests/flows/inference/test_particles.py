"""Tests of flows.inference.particles."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.errors import InferenceError
from flows.inference.cautions import Caution
from flows.inference.columns import latent_columns
from flows.inference.particles import Particles
from flows.model.layout import Layout, Variable

from .targets import NormalProposal, seeded

COLUMNS = (
    Variable("sample0", "z0", (), 0, 1),
    Variable("sample1", "w", (2,), 1, 3),
)


def particles_of(num=50, seed=0):
    generator = seeded(seed)
    latents = torch.randn((num, 3), dtype=torch.float64, generator=generator)
    log_weights = torch.randn(num, dtype=torch.float64, generator=generator)
    log_weights[3] = -math.inf
    return Particles.from_draws(latents, log_weights, COLUMNS)


def test_columns_lie_side_by_side_in_the_order_of_the_layout():
    latents = (
        Variable("sample0", "z0", (), 0, 1, 0, 1),
        Variable("sample1", "w", (2,), 1, 3, 1, 2),
    )
    assert latent_columns(Layout(latents, ())) == COLUMNS


def test_every_column_has_its_label():
    matrix = Variable("sample2", "m", (2, 2), 0, 4)
    assert matrix.column_names == ("m[0,0]", "m[0,1]", "m[1,0]", "m[1,1]")
    assert particles_of().element_labels == ("z0", "w[0]", "w[1]")


def test_values_are_found_by_either_name_in_their_own_shape():
    particles = particles_of()
    assert particles["sample1"].shape == (50, 2)
    assert torch.equal(particles["z0"], particles.latents[:, 0])
    assert torch.equal(particles["w"], particles["sample1"])
    with pytest.raises(KeyError, match="there are z0, w"):
        particles["z9"]


def test_mean_and_sd_agree_with_numpy():
    particles = particles_of()
    weights = np.exp(particles.log_weights.numpy())
    mean = np.average(particles.latents.numpy(), axis=0, weights=weights)
    variance = np.average(
        (particles.latents.numpy() - mean) ** 2, axis=0, weights=weights
    )
    np.testing.assert_allclose(particles.mean().numpy(), mean)
    np.testing.assert_allclose(particles.sd().numpy(), np.sqrt(variance))


def test_quantiles_of_integer_weights_are_those_of_repeated_values():
    """A particle of weight 3 counts like three particles of weight 1."""
    generator = seeded(1)
    latents = torch.randn((40, 3), dtype=torch.float64, generator=generator)
    counts = torch.randint(0, 4, (40,), generator=generator)
    particles = Particles.from_draws(latents, counts.double().log(), COLUMNS)
    repeated = latents.repeat_interleave(counts, 0).numpy()
    levels = [0.033, 0.271, 0.5003, 0.95]
    expected = np.quantile(repeated, levels, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(particles.quantiles(levels).numpy(), expected)


def test_quantiles_refuse_levels_outside_the_open_unit_interval():
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        particles_of().quantiles([0.0, 0.5])


def test_a_particle_without_weight_changes_no_average_even_if_it_is_infinite():
    particles = particles_of()
    latents = particles.latents.clone()
    latents[3] = math.inf
    other = Particles.from_draws(latents, particles.log_weights, COLUMNS)
    assert torch.equal(other.mean(), particles.mean())
    assert torch.equal(other.sd(), particles.sd())
    assert torch.equal(other.mean_standard_error(), particles.mean_standard_error())
    assert torch.equal(other.quantiles([0.99]), particles.quantiles([0.99]))


def test_relabelling_particles_and_scaling_weights_changes_nothing():
    particles = particles_of()
    order = torch.randperm(50, generator=seeded(2))
    other = Particles.from_draws(
        particles.latents[order], particles.log_weights[order] + 800.0, COLUMNS
    )
    torch.testing.assert_close(other.mean(), particles.mean())
    torch.testing.assert_close(other.quantiles([0.3]), particles.quantiles([0.3]))
    assert other.totals.ess == pytest.approx(particles.totals.ess)


def test_merged_batches_are_the_whole():
    particles = particles_of()
    halves = [
        Particles.from_draws(
            particles.latents[rows], particles.log_weights[rows], COLUMNS
        )
        for rows in (slice(0, 20), slice(20, 50))
    ]
    merged = Particles.merge(halves)
    assert torch.equal(merged.latents, particles.latents)
    assert torch.equal(merged.log_weights, particles.log_weights)


def doubtful(what):
    doubt = Caution(what, "the mean is of a part alone", "Draw from the prior")
    return replace(particles_of(), doubts=(doubt,))


def test_doubts_go_with_particles_that_are_merged_or_resampled():
    first, second = doubtful("half is missed"), doubtful("all is missed")
    merged = Particles.merge([first, particles_of(), second, first])
    assert merged.doubts == (*first.doubts, *second.doubts)
    drawn = merged.resampled(10, generator=seeded(0)).particles
    assert drawn.summary().cautions[:2] == merged.doubts


def test_batches_of_different_latents_do_not_merge():
    other = Particles.from_draws(
        torch.zeros((1, 1), dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        COLUMNS[:1],
    )
    with pytest.raises(ValueError, match="do not merge"):
        Particles.merge([particles_of(), other])


def test_averages_of_particles_without_weight_are_refused_in_words():
    latents = torch.zeros((4, 3), dtype=torch.float64)
    log_weights = torch.full((4,), -math.inf, dtype=torch.float64)
    particles = Particles.from_draws(latents, log_weights, COLUMNS)
    assert particles.totals.ess == 0.0
    with pytest.raises(InferenceError, match="all weights are 0"):
        particles.mean()


def test_draws_in_single_precision_are_refused():
    with pytest.raises(ValueError, match="float64"):
        Particles.from_draws(
            torch.zeros((4, 3)), torch.zeros(4, dtype=torch.float64), COLUMNS
        )


def test_rows_and_weights_must_be_as_many():
    with pytest.raises(ValueError, match="do not fit together"):
        Particles.from_draws(
            torch.zeros((4, 3), dtype=torch.float64),
            torch.zeros(5, dtype=torch.float64),
            COLUMNS,
        )


def test_the_standard_error_of_the_mean_is_the_spread_over_repetitions():
    """Target N(0, 1), proposal N(0.5, 1.3): z-scores of 2,000 means have unit sd.

    The sd of 2,000 z-scores has standard error 1/√4000 = 0.016, plus the small-sample
    spread of the error's own estimate; five standard errors are allowed.
    """
    proposal = NormalProposal(
        torch.tensor([0.5], dtype=torch.float64),
        torch.tensor([[1.3]], dtype=torch.float64),
    )
    column = (Variable("sample0", "z0", (), 0, 1),)
    generator = seeded(3)
    scores = []
    for _ in range(2000):
        draw = proposal.rsample_and_log_prob(torch.zeros(1), 400, generator=generator)
        log_weights = -0.5 * draw.latents[:, 0] ** 2 - draw.log_prob
        particles = Particles.from_draws(draw.latents, log_weights, column)
        scores.append(float(particles.mean() / particles.mean_standard_error()))
    assert abs(np.mean(scores)) < 5 / math.sqrt(2000)
    assert abs(np.std(scores) - 1.0) < 5 * 0.016


def test_averages_of_one_latent_have_its_shape_and_those_of_its_columns():
    particles = particles_of()
    for name in ("w", "sample1"):
        assert torch.equal(particles.mean(name), particles.mean()[1:])
        assert torch.equal(particles.sd(name), particles.sd()[1:])
        assert torch.equal(
            particles.quantiles([0.1, 0.9], name),
            particles.quantiles([0.1, 0.9])[:, 1:],
        )
    error = particles.mean_standard_error("z0")
    assert error.shape == ()
    assert error == particles.mean_standard_error()[0]


def test_particles_that_were_saved_come_back_whole_also_from_paths_as_text(tmp_path):
    particles = particles_of()
    particles.save(str(tmp_path / "p.npz"))
    loaded = Particles.load(str(tmp_path / "p.npz"))
    assert len(loaded) == len(particles) == 50
    assert torch.equal(loaded.latents, particles.latents)
    assert str(loaded.summary()) == str(particles.summary())


def test_arviz_gets_values_by_label_and_their_log_weights():
    pytest.importorskip("arviz_base")
    particles = particles_of()
    tree = particles.to_arviz(observed_data={"x": np.array([1.5])})
    assert tree["posterior"]["w"].shape == (1, 50, 2)
    np.testing.assert_array_equal(
        tree["posterior"]["z0"][0], particles.latents[:, 0].numpy()
    )
    np.testing.assert_array_equal(
        tree["sample_stats"]["log_weight"][0], particles.log_weights.numpy()
    )
    assert float(tree["observed_data"]["x"][0]) == 1.5


@pytest.mark.parametrize("scheme", ["systematic", "multinomial"])
def test_resampled_draws_are_rows_of_particles_and_the_distinct_ones_are_counted(
    scheme,
):
    particles = particles_of()
    draws = particles.resampled(200, scheme=scheme, generator=seeded(4))
    rows = {tuple(row) for row in draws.particles.latents.tolist()}
    assert rows <= {tuple(row) for row in particles.latents.tolist()}
    assert draws.num_distinct == len(rows)
    assert draws.particles.log_weights.tolist() == [0.0] * 200
    assert not torch.equal(
        draws.particles.latents, draws.particles.latents.sort(0).values
    )


def test_nearly_equal_weights_are_resampled_with_nearly_no_copies():
    """10,000 draws of 10,000 particles with ess / N of .996; else 6,321."""
    latents = torch.arange(10_000, dtype=torch.float64).unsqueeze(1)
    noise = torch.randn(10_000, dtype=torch.float64, generator=seeded(5))
    particles = Particles.from_draws(latents, 0.0633 * noise, COLUMNS[:1])
    assert particles.totals.ess_fraction == pytest.approx(0.996, abs=5e-4)
    draws = particles.resampled(10_000, generator=seeded(6))
    assert draws.num_distinct > 9_600
    fewer = particles.resampled(7_000, generator=seeded(6))
    assert fewer.num_distinct == 7_000
