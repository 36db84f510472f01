"""Tests of flows.inference.smc.annealing."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from flows.errors import InferenceError
from flows.inference.importance import importance_particles
from flows.inference.proposal import DefensiveMixture, PriorProposal, ProposalDraw
from flows.inference.resampling import SCHEMES
from flows.inference.smc.annealing import annealed_smc, init, linger, step
from flows.inference.smc.config import AnnealingConfig
from flows.inference.smc.coordinates import BaseSpace, FreeSpace
from flows.inference.smc.forgetting import move_cautions
from flows.inference.smc.moves import Hamiltonian, RandomWalk
from flows.inference.smc.point import Point
from flows.inference.smc.result import summarize_smc
from flows.model.draws import Draws
from flows.model.model import Model

from ...model.programs import graph_of
from ..targets import (
    NormalChain,
    NormalProposal,
    check_moments,
    layout_of,
    normal_log_prob,
    result_of,
    seeded,
)

MODEL = NormalChain(num_steps=3, noise=0.15)
DATA = torch.tensor([1.9, 1.2, 2.4], dtype=torch.float64)
MEAN, COVARIANCE, LOG_EVIDENCE = MODEL.posterior(DATA)


def run(space, num_particles, *, seed, **settings):
    config = AnnealingConfig(**settings)
    return annealed_smc(space, num_particles, seed=seed, config=config)


def schedule_of(reports):
    return tuple(report.stage for report in reports)


def shifted():
    """A flow with one nuisance that is wrong in place, width and correlation."""
    covariance = 0.3 * np.eye(4)
    covariance[3, 0] = covariance[0, 3] = 0.2
    return NormalProposal.from_moments(np.array([1.0, 1.0, 1.0, 0.3]), covariance, 1)


@dataclass(frozen=True)
class NormalMap:
    """The same proposal as a push-forward of N(0, I)."""

    proposal: NormalProposal

    @property
    def base_dim(self):
        return self.proposal.mean.shape[0]

    def from_base(self, base, observed):
        joint = self.proposal.mean + base @ self.proposal.factor.T
        split = self.base_dim - self.proposal.nuisance_dim
        latents, nuisances = joint[:, :split], joint[:, split:]
        return ProposalDraw(
            latents, nuisances, self.proposal.log_prob(latents, nuisances, observed)
        )


SPACES = {
    "prior": lambda: FreeSpace(MODEL, PriorProposal(MODEL), DATA),
    "flow": lambda: FreeSpace(MODEL, shifted(), DATA),
    "defensive": lambda: FreeSpace(
        MODEL, DefensiveMixture(shifted(), PriorProposal(MODEL), 0.2), DATA
    ),
    "base": lambda: BaseSpace(MODEL, NormalMap(shifted()), DATA),
}
MOVES = {"random walk": RandomWalk(), "hamiltonian": Hamiltonian(4)}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("space", SPACES)
def test_evidence_means_and_covariance_agree_with_the_exact_answer(space, move):
    """Within 4 of their own standard errors; 4,000 particles."""
    reports = list(run(SPACES[space](), 4000, seed=1, move=MOVES[move]))
    temperatures = [report.temperature for report in reports]
    assert temperatures == sorted(temperatures)
    assert temperatures[-1] == 1.0
    result = result_of(reports)
    error = result.log_evidence_standard_error
    assert error < 0.15
    assert abs(result.log_evidence - LOG_EVIDENCE) < 4 * error
    deviation = result.particles.mean().numpy() - MEAN
    assert (np.abs(deviation) < 4 * result.mean_standard_error().numpy()).all()
    ratio = result.particles.sd().numpy() / np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)
    assert all(0.1 < report.acceptance <= 1.0 for report in reports)


LONG = NormalChain(num_steps=100)


def long_spaces():
    """Return spaces over 100 steps, whose flow is off in place and width everywhere."""
    data = LONG.sample(1, generator=seeded()).observed[0]
    mean, covariance, _ = LONG.posterior(data)
    off = mean + 0.4 * np.sqrt(np.diag(covariance))
    flow = NormalProposal.from_moments(off, 1.2 * covariance)
    prior = PriorProposal(LONG)
    return {
        "prior": FreeSpace(LONG, prior, data),
        "flow": FreeSpace(LONG, flow, data),
        "defensive": FreeSpace(LONG, DefensiveMixture(flow, prior, 0.2), data),
        "base": BaseSpace(LONG, NormalMap(flow), data),
    }


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", SPACES)
def test_over_100_steps_the_answer_is_exact_where_weights_alone_say_nothing(
    name, scheme
):
    """Within 4 standard errors."""
    space = long_spaces()[name]
    mean, covariance, log_evidence = LONG.posterior(space.observed)
    reports = list(run(space, 1000, seed=1, move=Hamiltonian(8), scheme=scheme))
    result = result_of(reports)
    error = result.log_evidence_standard_error
    assert error < 0.2
    assert abs(result.log_evidence - log_evidence) < 4 * error
    check_moments(result, mean, covariance)


def test_importance_sampling_over_100_steps_finds_nothing_from_that_flow():
    space = long_spaces()["flow"]
    plain = importance_particles(LONG, space.proposal, space.observed, 1000, seed=0)
    assert plain.totals.ess < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "move"),
    [("base", "random walk"), ("flow", "random walk"), ("prior", "hamiltonian")],
)
def test_with_a_schedule_the_evidence_is_unbiased_over_1000_repetitions(space, move):
    """The mean of Z / exact over 1,000 runs of 30 particles is 1 within 4 errors."""
    space, move = SPACES[space](), MOVES[move]
    pilot = list(run(space, 500, seed=99, move=move, most_moves=3, cess_fraction=0.8))
    ratios = []
    for seed in range(1000):
        again = run(space, 30, seed=seed, move=move, schedule=schedule_of(pilot))
        ratios.append(math.exp(result_of(again).log_evidence - LOG_EVIDENCE))
    error = np.std(ratios, ddof=1) / math.sqrt(1000)
    assert 1 < len(pilot) < 30
    assert error < 0.1
    assert abs(np.mean(ratios) - 1.0) < 4 * error


def test_a_run_along_a_schedule_goes_the_same_way():
    space = SPACES["flow"]()
    pilot = schedule_of(run(space, 500, seed=0))
    again = schedule_of(run(space, 50, seed=1, schedule=pilot))
    assert all(
        one.temperature == other.temperature
        and one.step_size == other.step_size
        and one.num_moves == other.num_moves
        and torch.equal(one.factor, other.factor)
        for one, other in zip(again, pilot, strict=True)
    )


def test_particles_move_until_they_have_forgotten_where_they_were():
    space = SPACES["prior"]()
    reports = list(run(space, 1000, seed=0, move=RandomWalk(), most_moves=200))
    nums = [report.stage.num_moves for report in reports]
    # A random walk of acceptance 0.3 along three coordinates takes several moves.
    assert all(3 < num < 60 for num in nums)
    assert all(report.correlation <= 0.2 for report in reports)
    assert move_cautions(reports) == ()


def test_particles_that_hardly_move_are_said_in_words():
    space = SPACES["prior"]()
    reports = list(run(space, 300, seed=0, move=RandomWalk(), most_moves=1))
    assert {report.stage.num_moves for report in reports} == {1}
    (caution,) = move_cautions(reports)
    assert f"at {len(reports)} of {len(reports)} temperatures" in caution.what
    assert "after 1 moves" in caution.what
    reports = list(run(space, 300, seed=0, most_moves=0))
    assert "hardly moved" in move_cautions(reports)[0].what


def test_an_observation_where_importance_sampling_fails_gets_the_true_answer():
    """40 prior predictive sd away; the exact evidence is about -800 nats."""
    model = NormalChain(noise=0.05)
    data = torch.tensor([40.0], dtype=torch.float64)
    mean, covariance, exact = model.posterior(data)
    plain = importance_particles(model, PriorProposal(model), data, 4000, seed=0)
    assert plain.totals.log_evidence < exact - 1000
    space = FreeSpace(model, PriorProposal(model), data)
    result = result_of(run(space, 1000, seed=0))
    error = result.log_evidence_standard_error
    assert error < 0.5
    assert abs(result.log_evidence - exact) < 4 * error
    summary = summarize_smc(result)
    assert abs(summary.latents[0].mean - mean[0]) < 4 * math.sqrt(
        summary.latents[0].mean_standard_error ** 2 + covariance[0, 0] / 1000
    )
    assert summary.latents[0].sd == pytest.approx(math.sqrt(covariance[0, 0]), rel=0.1)


def test_an_exact_proposal_needs_one_temperature_and_keeps_equal_weights():
    exact = NormalProposal.from_moments(MEAN, COVARIANCE)
    reports = list(run(FreeSpace(MODEL, exact, DATA), 100, seed=0))
    assert [report.temperature for report in reports] == [1.0]
    assert not reports[0].has_resampled
    assert reports[0].log_evidence == pytest.approx(LOG_EVIDENCE)


@dataclass(frozen=True)
class Rate:
    """z ~ Exponential(1), x ~ Exponential(z): posterior Gamma(2, 1 + x), exactly.

    With `edge`, z must also exceed it: the weight of most prior draws is then 0.
    """

    edge: float = 0.0

    layout = layout_of([("sample0", "z", ())], [("observe1", "x", ())])

    def sample(self, num, *, generator):
        uniform = torch.rand((num, 2), dtype=torch.float64, generator=generator)
        latents = -torch.log1p(-uniform[:, :1])
        return Draws(latents, -torch.log1p(-uniform[:, 1:]) / latents)

    def sample_latents(self, num, *, generator, observed):
        return self.sample(num, generator=generator).latents

    def log_prior(self, latents, observed=None):
        z = latents[..., 0]
        return torch.where(z > 0, -z, -math.inf)

    def log_joint(self, latents, observed):
        z = latents[..., 0]
        inside = self.log_prior(latents) + z.log() - z * observed[..., 0]
        return torch.where(z > self.edge, inside, -math.inf)

    def constrain(self, free):
        return free.exp(), free.sum(-1)

    def unconstrain(self, latents):
        return latents.log(), latents.log().sum(-1)

    def at_edge(self, free):
        return torch.zeros_like(free, dtype=torch.bool)


@pytest.mark.parametrize("move", MOVES)
def test_a_bounded_latent_is_moved_on_the_real_line(move):
    model = Rate()
    data = torch.tensor([6.0], dtype=torch.float64)
    space = FreeSpace(model, PriorProposal(model), data)
    result = result_of(run(space, 4000, seed=3, move=MOVES[move]))
    error = result.log_evidence_standard_error
    assert abs(result.log_evidence + 2 * math.log(7.0)) < 4 * error
    law = stats.gamma(2, scale=1 / 7)
    assert abs(float(result.particles.mean()) - law.mean()) < 4 * float(
        result.mean_standard_error()
    )
    for level in (0.05, 0.5, 0.95):
        quantile = float(result.particles.quantiles([level]))
        assert law.cdf(quantile) == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("edge", [0.3, 2.3])
def test_weights_of_zero_are_replaced_by_resampling(edge):
    """A quarter, or nine tenths, of the prior draws have weight 0."""
    model = Rate(edge)
    data = torch.tensor([1.5], dtype=torch.float64)
    reports = list(run(FreeSpace(model, PriorProposal(model), data), 4000, seed=3))
    result = result_of(reports)
    law = stats.gamma(2, scale=1 / 2.5)
    exact = math.log(law.sf(edge) / 2.5**2)
    assert reports[0].has_resampled
    assert result.particles.totals.num_zero == 0
    assert abs(result.log_evidence - exact) < 4 * result.log_evidence_standard_error
    assert float(result.particles.latents.min()) > edge


def test_no_weight_at_all_is_evidence_zero_not_an_error():
    model = Rate(edge=1e9)
    data = torch.tensor([1.5], dtype=torch.float64)
    space = FreeSpace(model, PriorProposal(model), data)
    (report,) = run(space, 50, seed=0)
    assert report.log_evidence == -math.inf
    assert report.result.log_evidence == -math.inf
    assert "evidence is 0" in summarize_smc(report.result).cautions[0].meaning


@pytest.mark.parametrize(
    ("value", "words"), [(math.nan, "50 nan and 0"), (math.inf, r"0 nan and 50 \+inf")]
)
def test_weights_that_are_no_numbers_are_errors_with_their_count(value, words):
    @dataclass(frozen=True)
    class Broken(Rate):
        def log_joint(self, latents, observed):
            return torch.full_like(latents[..., 0], value)

    model = Broken()
    data = torch.tensor([1.5], dtype=torch.float64)
    space = FreeSpace(model, PriorProposal(model), data)
    with pytest.raises(InferenceError, match=words):
        list(run(space, 50, seed=0))


def test_a_run_follows_from_its_seed_and_leaves_global_state_alone():
    before = torch.get_rng_state()
    space = SPACES["base"]()
    first, again, other = (result_of(run(space, 50, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.particles.latents, again.particles.latents)
    assert not torch.equal(first.particles.latents, other.particles.latents)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_particles", 1),
        ("most_moves", -1),
        ("correlation", 1.0),
        ("cess_fraction", 1.0),
        ("ess_threshold", math.nan),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"annealing: {name}: .*; got {value}"):
        run(SPACES["base"](), **({"num_particles": 5, "seed": 0} | {name: value}))


def test_a_step_leaves_its_state_as_it_was():
    """Taken twice from one state with equal draws, it leads to the same place."""
    space, config = SPACES["flow"](), AnnealingConfig()
    state = init(space, 50, config, seeded(1))
    before = state.point.coordinates.clone()
    first, again = (step(state, space, config, seeded(2))[0] for _ in range(2))
    assert state.temperature == 0.0
    assert torch.equal(state.point.coordinates, before)
    assert not torch.equal(first.point.coordinates, before)
    assert torch.equal(first.point.coordinates, again.point.coordinates)
    assert torch.equal(first.lineages.log_weights, again.lineages.log_weights)
    assert first.temperature == again.temperature > 0.0


def test_every_place_on_the_way_is_a_particle():
    """Chains of random walks: the mean over all places is known better than the last's.

    Over 20 runs; the variance falls by a third at least.
    """
    space, config = SPACES["prior"](), AnnealingConfig(RandomWalk(), cess_fraction=0.7)
    whole, last = [], []
    for seed in range(20):
        *_, report = annealed_smc(space, 100, seed=seed, config=config)
        particles = report.result.particles
        assert 800 <= particles.num_particles <= 100 * report.stage.num_moves
        whole.append(particles.mean().numpy() - MEAN)
        last.append(particles.latents[-100:].mean(0).numpy() - MEAN)
    assert np.var(whole) < 0.67 * np.var(last)


def test_lingering_makes_means_better_known_and_leaves_the_evidence():
    space = SPACES["prior"]()
    config, generator = AnnealingConfig(Hamiltonian(4)), seeded(1)
    state = init(space, 1000, config, generator)
    while state.temperature < 1.0:
        state, first = step(state, space, config, generator)
    for _ in range(5):
        state, report = linger(state, space, config, generator)
    before, result = first.result, report.result
    assert result.log_evidence == pytest.approx(before.log_evidence, abs=1e-12)
    assert result.least_ess > 3 * before.least_ess
    check_moments(result, MEAN, COVARIANCE)


def test_lingering_anew_leaves_out_where_particles_came_from():
    space = SPACES["prior"]()
    config, generator = AnnealingConfig(Hamiltonian(4)), seeded(1)
    state = init(space, 1000, config, generator)
    while state.temperature < 1.0:
        state, first = step(state, space, config, generator)
    _, report = linger(state, space, config, generator, anew=True)
    before, result = first.result, report.result
    places = result.particles.latents.numpy()
    assert len(places) == 1000 * report.stage.num_moves
    # A refused move leaves a particle where it was; by the last one few have stayed.
    stayed = np.isin(places[-1000:, 0], before.particles.latents[:, 0].numpy())
    assert stayed.mean() < 0.05
    assert result.log_evidence == pytest.approx(before.log_evidence, abs=1e-12)
    check_moments(result, MEAN, COVARIANCE)


def test_base_and_free_coordinates_agree_on_the_density():
    """π_β differs between the spaces by log|det| of the affine map alone."""
    free, base = SPACES["flow"](), SPACES["base"]()
    generator = torch.Generator()
    generator.manual_seed(0)
    points = base.draw(20, generator=generator)
    mapped = shifted().mean + points @ shifted().factor.T
    log_det = float(shifted().factor.diagonal().log().sum())
    for temperature in (0.3, 1.0):
        torch.testing.assert_close(
            base.at(points).log_density(temperature),
            free.at(mapped).log_density(temperature) + log_det,
        )
    expected = normal_log_prob(mapped[:, 3], 0.0, 1.0) + MODEL.log_joint(
        mapped[:, :3], DATA
    )
    torch.testing.assert_close(free.at(mapped).log_density(1.0), expected)


NARROWING = """
(let [a (sample (normal 0 1))
      x (observe (mvn [0 0] [[(sqrt (- 1.0 (* a a))) 0.1] [0.1 1]]) [0.3 0.2])]
  a)
"""


@pytest.mark.parametrize("move", MOVES)
def test_moves_to_where_a_covariance_is_nan_are_refused_and_counted(move):
    """The run goes on, to the integral over the places that have a meaning."""

    def density(a):
        covariance = np.array([[math.sqrt(1.0 - a * a), 0.1], [0.1, 1.0]])
        likelihood = stats.multivariate_normal(np.zeros(2), covariance).pdf([0.3, 0.2])
        return stats.norm.pdf(a) * likelihood

    edge = math.sqrt(1.0 - 0.01**2) - 1e-9
    exact = math.log(integrate.quad(density, -edge, edge, limit=500)[0])
    model = Model.from_graph(graph_of(NARROWING)).forgiving()
    space = FreeSpace(model, PriorProposal(model), model.observation())
    reports = list(run(space, 2000, seed=1, move=MOVES[move], cess_fraction=0.5))
    result = result_of(reports)
    assert sum(report.num_divergent for report in reports) > 20
    error = result.log_evidence_standard_error
    assert error < 0.1
    assert abs(result.log_evidence - exact) < 4 * error
    assert float(result.particles.latents.abs().max()) < edge


@dataclass(frozen=True)
class FarNarrower:
    """Coordinates of many normals N(0, 10²), each observed at 3 with sd 0.01."""

    observed: torch.Tensor = field(default_factory=lambda: torch.zeros(1))
    target: NormalChain = MODEL

    def draw(self, num_particles, *, generator):
        shape = (num_particles, 40)
        return 10.0 * torch.randn(shape, dtype=torch.float64, generator=generator)

    def at(self, coordinates):
        prior = normal_log_prob(coordinates, 0.0, 10.0).sum(1)
        return Point(
            coordinates,
            coordinates,
            prior,
            normal_log_prob(coordinates, 3.0, 0.01).sum(1),
        )


def test_moves_forget_weights_too_where_the_way_is_long():
    config = AnnealingConfig(move=Hamiltonian(16), cess_fraction=0.7)
    generator, space = seeded(0), FarNarrower()
    state = init(space, 1000, config, generator)
    while state.temperature < 5e-5:
        state, report = step(state, space, config, generator)
    # Half turns keep how far a particle is from the mode; had they only to forget its
    # coordinates, a few lines would take over: nats too high at any seed.
    beta = state.temperature
    variance = 0.01**2 / beta
    exact = 40 * (
        0.5 * math.log(2 * math.pi * variance)
        - 0.5 * beta * math.log(2 * math.pi * 0.01**2)
        + stats.norm.logpdf(3.0, 0.0, math.sqrt(100.0 + variance))
    )
    assert report.log_evidence == pytest.approx(exact, abs=1.0)
