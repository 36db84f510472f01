"""Tests of flows.front.nuisances: where a flow of a few nuisances each lacks most."""

import json
import math
from dataclasses import replace
from itertools import product

import pytest
import torch

import flows
from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow, for_weights
from flows.front.nuisances import EVEN, allotted, gaps_of
from flows.model.model import Model
from flows.training.batches import draw_batch
from tests.flows.cnf.random_structures import random_structure

from .conftest import QUICK

NARROW = FieldConfig(hidden=0)
STILL = FieldConfig(last_layer_scale=0.0)
"""Of a flow that is its normalisation before it is trained."""

HARD_AND_EASY = """(let [a (sample (normal 0 1)) b (sample (normal 0 1))]
  (observe (normal (* a a) 0.1) 1.0) (observe (normal b 1) 0.5) [a b])"""


def weights_of(structure, counts, config):
    blocks = [
        replace(block, nuisances=count)
        for block, count in zip(structure.blocks, counts, strict=True)
    ]
    flow = build_flow(replace(structure, blocks=tuple(blocks)), config)
    return sum(p.numel() for p in flow.parameters())


@pytest.mark.parametrize("config", [NARROW, FieldConfig(hidden=6, layers=3)])
@pytest.mark.parametrize("seed", range(3))
def test_an_allotment_takes_no_more_weights_than_even_shares_and_nearly_as_many(
    config, seed
):
    structure = random_structure(seed, vectors=True)
    gaps = torch.rand(5, generator=torch.Generator().manual_seed(seed)).tolist()
    counts = allotted(structure, gaps, config)
    assert min(counts) >= 2
    most = weights_of(structure, [EVEN] * 5, config)
    assert weights_of(structure, counts, config) <= most
    more = [count + 1 for count in counts]
    assert weights_of(structure, more, config) > most


def test_among_alike_latents_no_other_allotment_leaves_a_smaller_largest_share():
    """By enumeration: blocks without parents or data are alike, one nuisance each."""
    structure = random_structure(0)
    blocks = tuple(
        replace(block, latent_parents=(), observed_columns=())
        for block in structure.blocks[:3]
    )
    structure = replace(structure, blocks=blocks)
    gaps, config = (3.0, 0.5, 1.0), FieldConfig(hidden=4)

    def left(counts):
        return max(gap / (n - 1) for gap, n in zip(gaps, counts, strict=True))

    most = weights_of(structure, [EVEN] * 3, config)
    every = [
        counts
        for counts in product(range(2, 11), repeat=3)
        if weights_of(structure, counts, config) <= most
    ]
    found = allotted(structure, gaps, config)
    assert left(found) == min(map(left, every))
    assert found[0] > found[2] > found[1]


def test_many_nuisances_are_given_one_by_one_where_the_largest_gap_is_left():
    """As by going through all of them, each time with a look at the weights."""
    structure = random_structure(2)
    gaps = [0.3, 5.0, 0.0, 1.1, 2.0]
    counts = [2] * 5
    most = weights_of(structure, [EVEN] * 5, NARROW)
    while True:
        place = max(range(5), key=lambda i: gaps[i] / (counts[i] - 1))
        more = [count + (i == place) for i, count in enumerate(counts)]
        if weights_of(structure, more, NARROW) > most:
            break
        counts = more
    assert allotted(structure, gaps, NARROW) == tuple(counts)


def test_where_nothing_is_lacking_shares_are_even():
    assert allotted(random_structure(1), [0.0] * 5, NARROW) == (EVEN,) * 5


def normal_flows(program, factor):
    """A model, a flow too wide by a factor, and one as wide as the prior."""
    model = Model.from_program(program)
    draws = model.sample(20_000, generator=torch.Generator().manual_seed(1))
    free, _ = model.unconstrain(draws.latents)
    flow = build_flow(model, STILL, nuisances=2)
    flow.fit_normalisation(factor * free, draws.observed)
    reference = build_flow(model, STILL)
    reference.fit_normalisation(free, draws.observed)
    return model, flow, reference


def test_a_gap_is_the_divergence_in_closed_form_of_a_normal_that_is_too_wide():
    program = """(let [m (sample (normal 0 1)) n (sample (normal 3 2))]
      (observe (normal m 1e6) 0) (observe (normal n 1e6) 0) [m n])"""
    model, flow, reference = normal_flows(program, 2.0)
    generator = torch.Generator().manual_seed(2)
    gaps = gaps_of(model, flow, reference, generator=generator, num_draws=20_000)
    named = dict(zip(flow.structure.names, gaps, strict=True))
    # Mean and deviation are doubled: log 2 + (1 + (mean / deviation)^2) / 8 - 1/2.
    for variable, mean in zip(model.layout.latents, (0.0, 1.5), strict=True):
        exact = math.log(2.0) + (1.0 + mean**2) / 8.0 - 0.5
        found = named[variable.name]
        assert abs(found.mean - exact) < 0.02


def test_gaps_add_up_to_that_of_the_whole_density():
    model = Model.from_program(HARD_AND_EASY)
    flow = build_flow(model, NARROW, nuisances=3, seed=1)
    reference = build_flow(model, kind="autoregressive", seed=1)
    draws = model.sample(2000, generator=torch.Generator().manual_seed(1))
    free, _ = model.unconstrain(draws.latents)
    for each in (flow, reference):
        each.fit_normalisation(free, draws.observed)
    gaps = gaps_of(
        model, flow, reference, num_draws=400,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    # The same draws: 400 are one chunk.
    exact, other = for_weights(flow, 1e-5), for_weights(reference, 1e-5)
    batch = draw_batch(model, exact, 400, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        q = exact.log_prob(batch.free, batch.nuisances, batch.observed)
        better = other.log_prob(batch.free, batch.nuisances[:, :0], batch.observed)
    ours = torch.distributions.Normal(0.0, 1.0).log_prob(batch.nuisances).sum(1)
    whole = float((better + ours - q).mean())
    assert abs(sum(gap.mean for gap in gaps) - whole) < 1e-8


AUTO = {
    **QUICK,
    "augment": "auto",
    "integrate": "none",
    "flow": {"hidden": 0, "layers": 2},
}


def test_a_latent_that_is_harder_gets_more_and_the_run_says_so(tmp_path):
    model = Model.from_program(HARD_AND_EASY)
    pilot, reports = [], []
    found = flows.train(
        model, config={**AUTO, "max_iterations": 200}, checkpoint=tmp_path / "run",
        on_pilot=pilot.append, on_report=reports.append, engine="torch",
    )  # fmt: skip
    blocks = {block.name: block.nuisances for block in found.flow.structure.blocks}
    a, b = (blocks[v.name] for v in model.layout.latents)
    assert a > b
    assert pilot[-1].status == f"nuisances: a {a}, b {b}"
    fractions = [report.fraction for report in pilot]
    assert fractions == sorted(fractions)
    assert {report.phase for report in pilot} == {
        "nuisances, cnf",
        "nuisances, autoregressive",
    }
    assert reports[-1].iteration == 200
    assert found.artifact.manifest.training.config["augment"] == "auto"
    kept = json.loads((tmp_path / "run" / "nuisances.json").read_text())
    assert kept["nuisances"] == blocks


class Stop(Exception):
    """What a user's own function raises."""


def stop(report):
    if report.iteration >= 20:
        raise Stop


def test_a_run_goes_on_with_the_nuisances_that_were_chosen(model, tmp_path):
    where = {"engine": "torch", "config": AUTO}
    whole = flows.train(model, **where)
    folder = {"checkpoint": tmp_path / "run"}
    with pytest.raises(Stop):
        flows.train(model, **where, **folder, on_report=stop)
    again: list[object] = []
    resumed = flows.train(model, **where, **folder, resume=True, on_pilot=again.append)
    assert again == []
    assert resumed.flow.structure == whole.flow.structure
    ours, theirs = resumed.flow.state_dict(), whole.flow.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "given", [{}, {"augment": "auto"}, {"budget": 8.0}, {"config": "same"}]
)
def test_a_run_of_a_budget_goes_on_however_it_is_said(model, tmp_path, given):
    config = {**AUTO, "budget_seconds": 8.0, "max_iterations": 60}
    where = {"engine": "torch", "checkpoint": tmp_path / "run"}
    with pytest.raises(Stop):
        flows.train(model, config=config, on_report=stop, **where)
    if "config" in given:
        given = {"config": config}
    again: list[object] = []
    found = flows.train(model, **where, **given, resume=True, on_pilot=again.append)
    assert again == []
    assert found.metrics["seconds"] < 8.0 + 2.0
    with pytest.raises(flows.FlowsError, match="another configuration"):
        flows.train(model, **where, resume=True, augment=3, on_pilot=again.append)
    kept = tmp_path / "run" / "nuisances.json"
    kept.write_text("[]")
    with pytest.raises(flows.FlowsError, match=r"nuisances\.json: the file is damaged"):
        flows.train(model, **where, resume=True)


def test_a_run_that_was_stopped_while_it_chose_begins_again_as_it_was_asked(
    model, tmp_path
):
    def halt(report):
        raise Stop

    where = {"engine": "torch", "checkpoint": tmp_path / "run"}
    with pytest.raises(Stop):
        flows.train(model, config=AUTO, on_pilot=halt, **where)
    again: list[object] = []
    found = flows.train(model, **where, resume=True, on_pilot=again.append)
    assert again
    assert (found.flow.kind, found.flow.config.hidden) == ("cnf", 0)
    assert found.metrics["iterations"] == QUICK["max_iterations"]


def test_nuisances_are_not_chosen_beside_heads():
    program = """(let [z (sample (normal 0 1)) k (sample (poisson 50))]
      (observe (normal (+ z k) 1) 48) [z k])"""
    model = Model.from_program(program)
    for given in ({"kind": "cnf"}, {}):
        with pytest.raises(flows.FlowsError, match="augment: nuisances are not chosen"):
            flows.train(model, config={"heads": "all"}, augment="auto", **given)


def test_a_flow_is_not_bent_with_nuisances_still_to_be_chosen(model):
    with pytest.raises(
        flows.FlowsError, match=r"augment: auto is .*; expected a whole"
    ):
        flows.refine(model, config={"augment": "auto"}, budget=10)
