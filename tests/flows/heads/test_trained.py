"""Tests of flows with heads, from training to weighted particles and files."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

import flows
from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.cli import main
from flows.errors import FlowsError
from flows.front.sequential import smc
from flows.heads.flow import HeadedFlow
from flows.marginal import choice, node_tables
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.storage.artifact import Artifact
from tests.flows.heads.programs import FLIPS, MIXED
from tests.flows.quick import AUTOREGRESSIVE

SHORT = AUTOREGRESSIVE | {"max_iterations": 200, "batch_size": 64}
ALL = SHORT | {"heads": "all"}


@pytest.fixture(scope="module")
def mixed():
    return flows.train(flows.Model.from_program(MIXED), config=ALL)


@pytest.fixture(scope="module")
def flips():
    return flows.train(flows.Model.from_program(FLIPS), config=ALL)


def enumerated_flips():
    """Evidence and means of `FLIPS`, from its own numbers."""
    weights, rows = [], []
    for a, b, c in itertools.product((0, 1), (0, 1), (0, 1, 2)):
        chance = (0.3 if a else 0.7) * [0.2, 0.3, 0.5][c]
        on = 0.8 if a else 0.1
        chance *= on if b else 1 - on
        chance *= stats.norm.pdf(1.1, a + 2 * b, 0.7)
        chance *= (0.9 if b else 0.2) if c == 0 else 0.5
        weights.append(chance)
        rows.append((a, b, c))
    total = sum(weights)
    return math.log(total), np.array(weights) @ np.array(rows) / total


def enumerated_mixed():
    """Evidence and means of `MIXED`: z integrated out in closed form, 60 counts."""
    weights, rows = [], []
    for k, b, n in itertools.product(range(3), (0, 1), range(60)):
        chance = [0.2, 0.3, 0.5][k] * (0.4 if b else 0.6) * stats.poisson.pmf(n, 3)
        left = np.array([1.5 - 2 * k - (1 if b else -1), 4.0 - n])
        # Both data are z + noise of variance 1, z standard normal.
        weights.append(chance * stats.multivariate_normal.pdf(left, cov=np.eye(2) + 1))
        rows.append((left.sum() / 3, k, b, n))
    total = sum(weights)
    return math.log(total), np.array(weights) @ np.array(rows) / total


def check(particles, log_evidence, means):
    """Evidence and means within five of their errors, which are small."""
    totals = particles.totals
    assert totals.ess_fraction > 0.4
    error = totals.log_evidence_standard_error
    assert abs(totals.log_evidence - log_evidence) < 5 * error
    gaps = (particles.mean().numpy() - means) / particles.mean_standard_error().numpy()
    assert np.abs(gaps).max() < 5


def test_discrete_latents_alone_have_the_posterior_of_enumeration(flips):
    check(flips.sample(num_particles=20_000, seed=1), *enumerated_flips())


def test_a_count_a_flip_and_a_normal_have_the_posterior_of_enumeration(mixed):
    check(mixed.sample(num_particles=20_000, seed=1), *enumerated_mixed())


def test_weights_of_a_flow_that_was_not_trained_are_right():
    model = flows.Model.from_program(FLIPS)
    posterior = flows.train(model, config=ALL | {"max_iterations": 1})
    found = posterior.sample(num_particles=40_000, seed=2).totals
    error = found.log_evidence_standard_error
    assert abs(found.log_evidence - enumerated_flips()[0]) < 5 * error


def test_latents_too_wide_to_sum_get_heads_and_the_others_are_summed(monkeypatch):
    monkeypatch.setattr(choice, "_LARGEST", 8)
    monkeypatch.setattr(node_tables, "MOST_ENTRIES", 8)
    monkeypatch.setattr(node_tables, "_UNFOLDED_ENTRIES", 8)
    monkeypatch.setattr(node_tables, "_UNFOLDED_OWN", 8)
    text = (
        "(let [a (sample (flip 0.3)) b (sample (flip 0.6)) c (sample (flip 0.5))"
        " d (sample (flip 0.2)) z (sample (normal 0 1))]"
        " (observe (normal (+ z (+ (if a 1 0) (+ (if b 2 0) (+ (if c 4 0)"
        " (if d 8 0))))) 1) 3.2) z)"
    )
    model = flows.Model.from_program(text)
    posterior = flows.train(model, config=SHORT)
    heads, summed = posterior.artifact.heads, posterior.target.tables.discrete
    assert heads
    assert summed
    assert {*heads, *summed} == {f"sample{i}" for i in range(4)}
    chances = {}
    for bits in itertools.product((0, 1), repeat=4):
        on = np.array([0.3, 0.6, 0.5, 0.2])
        prior = np.where(bits, on, 1 - on).prod()
        mean = sum(2**i * x for i, x in enumerate(bits))
        chances[bits] = prior * stats.norm.pdf(3.2, mean, math.sqrt(2))
    total = sum(chances.values())
    found = posterior.sample(num_particles=20_000, seed=1)
    error = found.totals.log_evidence_standard_error
    assert abs(found.totals.log_evidence - math.log(total)) < 5 * error
    for place in range(4):
        expected = sum(c for bits, c in chances.items() if bits[place]) / total
        gap = float(found.mean()[place]) - expected
        assert abs(gap) < 5 * float(found.mean_standard_error()[place])


def test_saved_heads_give_the_same_particles(mixed, tmp_path):
    mixed.save(tmp_path / "artifact")
    again = flows.load(tmp_path / "artifact", mixed.model)
    one, other = (p.sample(None, 500, seed=2) for p in (mixed, again))
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.log_weights, other.log_weights)
    assert {*again.artifact.heads} == {"sample1", "sample2", "sample3"}


def test_an_artifact_serves_another_order_of_the_same_program(flips):
    """Columns of latents and data stand elsewhere; densities are the same."""
    model = flips.model
    constants, graph, result = model.graph.document.to_json()
    turned = {**graph, "V": graph["V"][::-1]}
    other = flows.Model.from_graph(_graph([constants, turned, result]))
    flow = flips.artifact.flow_for(other.graph, flips.artifact.target_for(other).layout)
    assert isinstance(flow, HeadedFlow)
    target = flips.artifact.target_for(other)
    draws = flips.target.sample(50, generator=torch.Generator().manual_seed(0))
    moved = _moved(draws.latents, flips.target.layout.latents, target.layout.latents)
    data = _moved(draws.observed, model.layout.observed, other.layout.observed)
    before, after = (
        f.log_prob(t.unconstrain(z)[0], z[:, :0], x)
        for f, t, z, x in (
            (flips.flow, flips.target, draws.latents, draws.observed),
            (flow, target, moved, data),
        )
    )
    torch.testing.assert_close(before, after)


def _graph(entries):
    return Graph.from_document(document_from_json(entries, "turned"))


def _moved(rows, own, other):
    columns = {v.name: v.start for v in own}
    return rows[:, [columns[v.name] for v in other]]


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_infer_draws_from_heads_where_they_are_good(mixed, kind):
    answer = flows.infer(mixed.model, flow=mixed.proposal(kind), method="flow")
    assert answer.method == "flow"
    assert "drawn by learned heads: k, b, n" in answer.why
    log_evidence, means = enumerated_mixed()
    assert answer.log_evidence == pytest.approx(
        log_evidence, abs=5 * answer.log_evidence_standard_error
    )
    assert answer.latents["n"].mean == pytest.approx(means[3], abs=0.1)


def test_evaluation_finds_the_draws_calibrated(mixed):
    config = EvaluationConfig(num_draws=400, num_data_sets=200, num_particles=100)
    *_, last = evaluate(mixed.target, mixed.flow, config)
    found = last.result
    assert found.flow.ess_median > 0.5
    assert [latent.name for latent in found.latents] == ["z", "k", "b", "n"]
    assert all(latent.ranks.is_uniform is not False for latent in found.latents)


@pytest.mark.parametrize("kind", ["cnf", "finite"])
def test_the_continuous_latents_may_have_a_flow_of_any_kind(kind):
    model = flows.Model.from_program(MIXED)
    quick = {
        "kind": kind,
        "heads": "all",
        "max_iterations": 20,
        "budget_seconds": 0,
        "num_certifications": 1,
        "certify_draws": 100,
        "normalisation_draws": 2000,
    }
    posterior = flows.train(model, config=quick, engine="auto")
    assert posterior.artifact.manifest.flow.kind == kind
    found = posterior.sample(num_particles=4000, seed=0).totals
    error = found.log_evidence_standard_error
    assert abs(found.log_evidence - enumerated_mixed()[0]) < 5 * error


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"objective": "reverse"}, "symmetric or forward"),
        ({"gradient": "total"}, "expected path"),
        ({"amortised": False}, "symmetric or forward"),
    ],
)
def test_settings_that_heads_cannot_follow_are_refused(settings, expected):
    model = flows.Model.from_program(MIXED)
    with pytest.raises(FlowsError, match=expected):
        flows.train(model, config=ALL | settings)


def test_a_kind_that_reads_factors_is_not_beside_heads():
    model = flows.Model.from_program(MIXED)
    config = {"heads": "all", "kind": "structured-gaussian"}
    with pytest.raises(FlowsError, match="cnf or finite or autoregressive; got struct"):
        flows.train(model, config=config)


def test_what_does_not_move_by_gradients_is_not_tempered_nor_bent(mixed):
    with pytest.raises(FlowsError, match=r"not summed out.*daphne-flows infer"):
        smc(mixed)
    with pytest.raises(FlowsError, match="heads of discrete latents"):
        mixed.refine()


def test_a_damaged_entry_of_heads_is_refused(mixed, tmp_path):
    place = tmp_path / "artifact"
    mixed.save(place)
    entry = json.loads((place / "manifest.json").read_text())
    manifest = Artifact.load(place).manifest
    entry["heads"]["cells"][0]["edges"] = [3, 1]
    changed = type(manifest).from_json(entry)
    artifact = Artifact(changed, mixed.artifact.tensors, mixed.artifact.golden, "x")
    artifact.save(place)
    with pytest.raises(FlowsError, match="increasing edges"):
        Artifact.load(place)


def test_the_command_line_trains_inspects_and_infers(tmp_path):
    program, config = tmp_path / "flips.daphne", tmp_path / "train.toml"
    program.write_text(FLIPS)
    settings = {k: v for k, v in ALL.items() if k not in ("kind", "flow")}
    config.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in settings.items()))
    artifact = str(tmp_path / "artifact")
    run = CliRunner().invoke

    def ran(*words):
        result = run(main, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout

    ran("train", str(program), "-o", artifact, "--config", str(config))
    assert "learned heads" in ran("inspect", artifact)
    answer = json.loads(
        ran("infer", str(program), "--artifact", artifact, "--method", "flow", "--json")
    )
    assert answer["method"] == "flow"
    log_evidence, _ = enumerated_flips()
    error = answer["log_evidence"]["standard_error"]
    assert abs(answer["log_evidence"]["value"] - log_evidence) < 5 * error
    ran("sample", artifact, str(program), "-o", str(tmp_path / "particles"))
    ran("evaluate", artifact, str(program), "--num-data-sets", "20")
