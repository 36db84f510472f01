"""Discrete latents that cannot all be summed out, by one command and right values."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flows.cli import main
from flows.errors import ArgumentError
from flows.front.inference import infer
from flows.marginal import choice, node_tables, tables
from flows.marginal.collapsed import CollapsedModel
from flows.marginal.sites import sites_of
from flows.model.model import Model
from tests.flows.model.programs import graph_of


def by_command(tmp_path, text, *options):
    """The exit code and the plain answer of `daphne-flows infer`."""
    program = tmp_path / "program.daphne"
    program.write_text(text)
    result = CliRunner().invoke(main, ["infer", str(program), "--json", *options])
    assert result.exit_code in (0, 3), result.output
    return result.exit_code, json.loads(result.stdout)


def check(found, log_evidence, means):
    """Evidence and means within four of their own errors, which must be small."""
    evidence = found["log_evidence"]
    assert evidence["standard_error"] < 0.25
    assert abs(evidence["value"] - log_evidence) < 4 * evidence["standard_error"]
    for name, mean in means.items():
        latent = found["latents"][name]
        assert abs(latent["mean"] - mean) < 4 * latent["mc_error"], name


def ising(couplings):
    """Spins that are all coupled with each other: p ∝ Π 1 / (1 + exp(-2 J s t))."""
    number = len(couplings)
    spins = " ".join(
        f"b{i} (sample (flip 0.5)) s{i} (if b{i} 1 -1)" for i in range(number)
    )
    pairs = " ".join(
        f"_{i}x{j} (observe (flip (/ 1 (+ 1 (exp (* {-2 * couplings[i, j]} "
        f"(* s{i} s{j})))))) true)"
        for i, j in itertools.combinations(range(number), 2)
    )
    return f"(let [{spins} {pairs}] b0)"


def strip(length, width, strength, seed):
    """Couplings of neighbours in a strip, and its evidence and means by transfer."""
    rng = np.random.default_rng(seed)
    number = length * width
    couplings = np.zeros((number, number))
    for i, j in itertools.combinations(range(number), 2):
        is_near = (j == i + 1 and j % width) or j == i + width
        couplings[i, j] = strength * rng.normal() + 0.4 if is_near else 0.0
    rows = np.array(list(itertools.product([-1, 1], repeat=width)))

    def log_term(j, product):
        return -np.log1p(np.exp(-2 * j * product))

    def inside(row):
        first = row * width
        return sum(
            log_term(couplings[first + i, first + i + 1], rows[:, i] * rows[:, i + 1])
            for i in range(width - 1)
        )

    def between(row):
        first = row * width
        return sum(
            log_term(
                couplings[first + i, first + width + i],
                rows[:, None, i] * rows[None, :, i],
            )
            for i in range(width)
        )

    forward = inside(0) - width * math.log(2)
    for row in range(1, length):
        step = forward[:, None] + between(row - 1) - width * math.log(2)
        forward = np.logaddexp.reduce(step, 0) + inside(row)
    far = math.comb(number, 2) - (length - 1) * width - length * (width - 1)
    return couplings, np.logaddexp.reduce(forward) - far * math.log(2)


@pytest.mark.slow
def test_a_fully_connected_network_of_spins_has_the_evidence_of_transfer(tmp_path):
    couplings, log_evidence = strip(10, 3, 0.3, seed=0)
    code, found = by_command(tmp_path, ising(couplings), "--budget", "30m")
    assert code == 0
    assert "sampled: b" in found["why"]
    # Without a field a spin is as often up as down.
    check(found, log_evidence, {f"b{i}": 0.5 for i in (0, 7, 14, 29)})


def noisy_or(chances, kept, findings):
    """A program of diseases and findings, each with its own chance to be caused."""
    diseases = " ".join(f"d{i} (sample (flip {c}))" for i, c in enumerate(chances))
    lines = " ".join(
        f"_{f} (observe (flip (- 1 (* 0.98 "
        + " ".join(f"(if d{i} {q} 1)" for i, q in enumerate(row))
        + f"))) {'true' if is_there else 'false'})"
        for f, (row, is_there) in enumerate(zip(kept, findings, strict=True))
    )
    return f"(let [{diseases} {lines}] d0)"


def noisy_or_exactly(chances, kept, findings):
    bits = np.array(list(itertools.product([0, 1], repeat=len(chances))))
    log_p = bits @ np.log(chances) + (1 - bits) @ np.log1p(-np.array(chances))
    none = 0.98 * np.exp(bits @ np.log(kept).T)
    log_p += np.log(np.where(findings, 1 - none, none)).sum(1)
    top = log_p.max()
    weights = np.exp(log_p - top)
    return top + math.log(weights.sum()), weights @ bits / weights.sum()


def test_diseases_that_share_all_findings_have_the_posterior_of_enumeration(tmp_path):
    rng = np.random.default_rng(1)
    chances = rng.choice([0.02, 0.05, 0.1], 15).tolist()
    kept = rng.uniform(0.4, 0.95, (60, 15)).round(3)
    ill = np.isin(np.arange(15), [2, 5, 9, 12])
    findings = rng.random(60) > 0.98 * np.prod(np.where(ill, kept, 1), 1)
    log_evidence, means = noisy_or_exactly(chances, kept, findings)
    code, found = by_command(tmp_path, noisy_or(chances, kept, findings))
    assert (code, found["method"]) == (0, "exact")
    assert math.isclose(found["log_evidence"]["value"], log_evidence, abs_tol=1e-9)
    for i, mean in enumerate(means):
        assert math.isclose(found["latents"][f"d{i}"]["mean"], mean, abs_tol=1e-9)


WORTH = [round(0.31 * math.sqrt(1 + i), 4) for i in range(17)]


def worths(scale=1.0):
    flips = " ".join(f"c{i} (sample (flip 0.4))" for i in range(17))
    parts = " ".join(f"(if c{i} {w} 0)" for i, w in enumerate(WORTH))
    return (
        f"(let [x (sample (normal 0 {scale})) {flips}]"
        f" (observe (normal (+ x {parts}) 0.5) 9.0) [x c16])"
    )


@pytest.mark.parametrize("method", ["auto", "smc"])
def test_sampled_latents_stand_beside_continuous_ones(tmp_path, method):
    options = ["--method", method, "--num-particles", "5000"]
    code, found = by_command(tmp_path, worths(), *options)
    bits = np.array(list(itertools.product([0, 1], repeat=17)))
    gap = 9.0 - bits @ WORTH
    prior = np.prod(np.where(bits, 0.4, 0.6), 1)
    weights = prior * stats.norm.pdf(gap, 0, math.hypot(1.0, 0.5))
    assert code == 0
    check(
        found,
        math.log(weights.sum()),
        {
            "x": weights @ gap / weights.sum() / 1.25,
            "c0": weights @ bits[:, 0] / weights.sum(),
            "c16": weights @ bits[:, 16] / weights.sum(),
        },
    )
    assert found["method"] == ("prior" if method == "auto" else "smc")


@pytest.mark.parametrize("method", ["auto", "smc"])
def test_a_count_of_a_huge_rate_is_sampled(tmp_path, method):
    code, found = by_command(
        tmp_path,
        "(let [n (sample (poisson 1.0e9))] (observe (normal n 30000) 1.00004e9) n)",
        *("--method", method),
    )
    assert code == 0
    # Of so large a rate the Poisson is a normal distribution to 1e-5.
    share = 1e9 / (1e9 + 9e8)
    check(
        found,
        stats.norm.logpdf(4e4, 0, math.sqrt(1e9 + 9e8)),
        {"n": 1e9 + 4e4 * share},
    )


def test_an_answer_that_moves_do_not_reach_is_not_trusted(tmp_path):
    flips = " ".join(f"c{i} (sample (flip 0.5))" for i in range(24))
    parts = " ".join(f"(if c{i} {2**i} 0)" for i in range(24))
    text = f"(let [{flips}] (observe (normal (+ {parts}) 0.1) 11184810.0) c0)"
    code, found = by_command(tmp_path, text, "--num-particles", "1000")
    assert found["method"] == "smc"
    true = -24 * math.log(2) + stats.norm.logpdf(0.0, 0, 0.1)
    evidence = found["log_evidence"]
    is_right = evidence["value"] is not None and (
        abs(evidence["value"] - true) < 4 * (evidence["standard_error"] or math.inf)
    )
    assert code == 3 or is_right
    assert found["ok"] == (code == 0)


def test_what_is_not_summed_out_is_refused_where_it_must_be(tmp_path):
    model = Model.from_graph(graph_of(worths()))
    with pytest.raises(ArgumentError, match="cannot be summed out"):
        infer(model, method="exact")
    with pytest.raises(ArgumentError, match="have no modes"):
        infer(model, method="laplace")
    program = tmp_path / "program.daphne"
    program.write_text(worths())
    graph = tmp_path / "graph.json"
    from daphne_bridge.cli import main as bridge

    CliRunner().invoke(bridge, ["compile", str(program), "-o", str(graph)])
    result = CliRunner().invoke(
        main, ["refine", str(graph), "-o", str(tmp_path / "artifact")]
    )
    assert result.exit_code == 2
    assert "too widely to be summed out" in result.output


PARTS = st.sampled_from(
    ["(if a 1 -0.5)", "(* 0.3 k)", "(if (and a b) 2 0)", "(- k (if b 1 0))", "m"]
)


@settings(max_examples=8, derandomize=True)
@given(first=PARTS, second=PARTS, third=PARTS)
def test_any_choice_of_sampled_latents_has_the_evidence_of_enumeration(
    first, second, third
):
    text = (
        "(let [a (sample (flip 0.3)) b (sample (flip (if a 0.7 0.2)))"
        " k (sample (uniform-discrete 0 4))"
        " c (sample (categorical [[1.5 0.5] [3 0.5]])) m (* c (if a 0.5 1))]"
        f" (observe (normal (+ {first} {second}) 1) 1.0)"
        f" (observe (normal (* {third} c) 1) 0.5) [a b k c])"
    )
    model = Model.from_graph(graph_of(text))
    rows = torch.tensor(
        list(itertools.product([0.0, 1.0], [0.0, 1.0], range(4), [0.0, 1.0])),
        dtype=torch.float64,
    )
    terms = model.log_joint(rows, model.observation())
    with pytest.MonkeyPatch.context() as limits:
        for name in ("MOST_ENTRIES", "MOST_OF_ONE_ROW", "_UNFOLDED_ENTRIES"):
            limits.setattr(node_tables, name, 3)
        limits.setattr(choice, "_LARGEST", 4)
        found = infer(model, num_particles=4000)
    assert "sampled" in found.why
    error = found.log_evidence_standard_error
    assert abs(found.log_evidence - float(terms.logsumexp(0))) < 5 * error
    means = terms.softmax(0) @ rows
    for position, name in enumerate("abk"):
        figure = found.latents[name]
        assert abs(figure.mean - float(means[position])) < 5 * figure.mc_error


@pytest.mark.parametrize("latent", range(3))
def test_what_a_move_computes_anew_is_the_change_of_the_whole(latent):
    text = (
        "(let [a (sample (flip 0.3)) b (sample (flip 0.6)) c (sample (flip 0.2))"
        " k (sample (poisson 3)) h (sample (flip (if a 0.9 0.2)))"
        " x (sample (normal k 1)) y (sample (normal 0 1)) z (sample (normal 1 2))]"
        " (observe (normal (+ x (if b 1 0)) 1) 2.0) (observe (normal (if h x y) 1) 1.0)"
        " (observe (normal z (if c 1 2)) 1.0) (observe (normal y 1) 0.0)"
        " (observe (normal z 1) 0.0) [a b c k])"
    )
    model = Model.from_graph(graph_of(text))
    sampled = tuple(model.graph.resolve(name) for name in "abc")
    target = CollapsedModel(
        model, tables.discrete_tables(model.lowered, sampled=sampled), sampled
    )
    observed = model.observation()
    site = sites_of(target, observed)[latent]
    before = target.sample_latents(50, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after[:, site.latent] = 1 - after[:, site.latent]
    assert site.change is not None
    prior, likelihood = site.change(before, after)

    def both(rows):
        log_prior = target.log_prior(rows, observed)
        return log_prior, target.log_joint(rows, observed) - log_prior

    for found, old, new in zip(
        (prior, likelihood), both(before), both(after), strict=True
    ):
        torch.testing.assert_close(found, new - old, atol=1e-10, rtol=0)
