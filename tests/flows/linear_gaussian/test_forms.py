"""Tests of flows.linear_gaussian: linear forms, and which latents have them."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from scipy import integrate, stats

from flows.front.inference import infer
from flows.linear_gaussian.choice import gaussian_marginal
from flows.linear_gaussian.factors import gaussian_latents
from flows.linear_gaussian.forms import Readers, linear_forms
from flows.linear_gaussian.order import elimination_rounds
from flows.model.dag import Dag
from flows.model.model import Model
from flows.model.schedule import Schedule
from flows.structured_gaussian.cliques import plan_of
from tests.flows.linear_gaussian.programs import CENTRED, LEVEL, NON_CENTRED

LATENTS, OTHERS = 3, 2

NODES = st.lists(
    st.tuples(
        st.sampled_from(["affine", "multiply", "divide", "choose", "exponential"]),
        st.integers(0, 2**16),
        st.integers(0, 2**16),
        st.integers(0, 2**16),
    ),
    min_size=1,
    max_size=12,
)


@given(NODES)
def test_forms_have_the_value_of_their_slots(nodes):
    dag = Dag()
    slots = [dag.variable(n) for n in range(LATENTS + OTHERS)]
    latents, others = slots[:LATENTS], slots[LATENTS:]
    slots += [dag.constant(0.0), dag.constant(1.5)]
    for name, *places in nodes:
        parts = [slots[place % len(slots)] for place in places]
        if name == "affine":
            slots.append(dag.affine(zip(parts, (1.0, -2.0, 0.5), strict=True), 0.3))
        else:
            number = {"choose": 3, "exponential": 1}.get(name, 2)
            slots.append(dag.emit(name, parts[:number]))
    wanted = slots[-3:]
    gone = Readers(dag, latents).not_linear(wanted)
    left = [slot for number, slot in enumerate(latents) if not gone >> number & 1]
    forms = linear_forms(dag, left, wanted, most=10**6)
    assert forms is not None
    readers = Readers(dag, left)
    parts = [
        part for form in forms for part in (form.rest, *form.coefficients.values())
    ]
    assert not any(readers.bits[part] for part in parts)
    values = torch.randn(
        LATENTS + OTHERS,
        7,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    schedule = Schedule.of(dag, [(*latents, *others)], [tuple(wanted), tuple(parts)])
    found, numbers = schedule.run([values], num_rows=7, like=values)
    at = dict(zip(parts, numbers.expand(-1, 7), strict=True))
    rows = dict(zip((*latents, *others), values, strict=True))
    for row, form in zip(found.expand(-1, 7), forms, strict=True):
        total = at[form.rest].clone()
        for number, slot in form.coefficients.items():
            total += at[slot] * rows[left[number]]
        is_fine = row.isfinite() & total.isfinite()
        torch.testing.assert_close(total[is_fine], row[is_fine], rtol=1e-9, atol=1e-9)


def labels(text):
    model = Model.from_program(text)
    found = gaussian_latents(model.lowered)
    return {model.layout.variable(name).label for name in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(let [a (sample (normal 0 1))] (observe (normal a 1) 1) a)", {"a"}),
        # a scale
        ("(let [a (sample (normal 0 1))] (observe (normal 0 (exp a)) 1) a)", set()),
        # another family
        ("(let [a (sample (normal 0 1))] (observe (poisson (exp a)) 1) a)", set()),
        # a prior that is none
        ("(let [a (sample (laplace 0 1))] (observe (normal a 1) 1) a)", set()),
        # curved
        ("(let [a (sample (normal 0 1))] (observe (normal (* a a) 1) 1) a)", set()),
        # a condition
        (
            "(let [a (sample (normal 0 1)) b (sample (normal 0 1))]"
            " (observe (normal (if (> a 0) b 1) 1) 1) a)",
            {"b"},
        ),
        # an observe that may not count
        (
            "(let [a (sample (normal 0 1)) b (sample (normal 0 1))]"
            " (if (> b 0) (observe (normal a 1) 1) 0) a)",
            set(),
        ),
        # of a product one side
        (
            "(let [a (sample (normal 0 1)) b (sample (normal 0 1))"
            " c (sample (normal 0 1))] (observe (normal (* a (+ b c)) 1) 1) a)",
            {"b", "c"},
        ),
        # what is returned does not matter
        ("(let [a (sample (normal 0 1))] (observe (normal a 1) 1) (exp a))", {"a"}),
    ],
)
def test_linear_gaussian_latents(text, expected):
    assert labels(text) == expected


@pytest.mark.parametrize("text", [LEVEL, CENTRED, NON_CENTRED])
def test_it_pays_where_most_latents_are(text):
    found = gaussian_marginal(Model.from_program(text))
    assert found is not None
    assert found.layout.latent_dim == 2


@pytest.mark.parametrize(
    "text",
    [
        # few
        "(let [s (sample (gamma 1 1)) a (sample (normal 0 s)) b (sample (normal 0 s))]"
        " (observe (normal (+ a b) 1) 1) a)",
        # a small share
        "(let [s (foreach 13 [] (sample (gamma 1 1)))"
        " a (foreach 8 [] (sample (normal 0 (get s 0))))]"
        " (observe (normal (reduce + a) (reduce + s)) 1) (get a 0))",
        # all of them
        "(let [a (foreach 20 [] (sample (normal 0 1)))]"
        " (observe (normal (reduce + a) 1) 1) (get a 0))",
        # discrete ones beside them
        "(let [k (sample (flip 0.5)) s (sample (gamma 1 1))"
        " a (foreach 20 [] (sample (normal 0 s)))]"
        " (observe (normal (if k (get a 0) (get a 1)) 1) 1) k)",
        # too widely dependent
        "(let [s (sample (gamma 1 1)) a (foreach 300 [] (sample (normal 0 s)))]"
        " (observe (normal (reduce + a) 1) 1) (get a 0))",
    ],
    ids=["few", "share", "all", "discrete", "wide"],
)
def test_it_is_left_where_that_pays_little(text):
    assert gaussian_marginal(Model.from_program(text)) is None


def test_a_chain_takes_the_logarithm_of_its_length():
    scopes = [(n, n + 1) for n in range(999)]
    order = elimination_rounds(1000, scopes)
    assert sorted(order) == list(range(1000))
    number = {column: place for place, column in enumerate(reversed(order))}
    plan = plan_of(1000, [[number[c] for c in scope] for scope in scopes])
    assert len(plan.batches) < 40
    assert max(batch.width for batch in plan.batches) == 3


def test_a_few_coefficients_beside_more_scales_are_integrated_out():
    text = """(let [tau (sample (half-cauchy 0.5))
                    lam (foreach 3 [] (sample (half-cauchy 1)))
                    beta (foreach 3 [l lam] (sample (normal 0 (* tau l))))]
      (foreach 3 [b beta y [2.6 0.1 -0.2]] (observe (normal b 0.5) y))
      beta)"""
    found = gaussian_marginal(Model.from_program(text))
    assert found is not None
    assert found.layout.latent_dim == 4
    answer = infer(found.model, num_particles=20_000)

    def evidence(tau):
        terms = [
            integrate.quad(
                lambda lam, y=y: (
                    stats.halfcauchy.pdf(lam)
                    * stats.norm.pdf(y, 0, math.hypot(0.5, tau * lam))
                ),
                0,
                math.inf,
            )[0]
            for y in (2.6, 0.1, -0.2)
        ]
        return stats.halfcauchy.pdf(tau, scale=0.5) * math.prod(terms)

    expected = math.log(integrate.quad(evidence, 0, math.inf)[0])
    assert answer.is_trusted
    error = answer.log_evidence_standard_error
    assert abs(answer.log_evidence - expected) < 5 * error + 0.01
