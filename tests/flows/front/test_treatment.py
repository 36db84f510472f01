"""Tests of flows.front.treatment."""

import itertools

import pytest

import flows
from daphne_bridge.errors import BridgeError
from flows.front.treatment import Treatment, check_answerable
from flows.marginal.target import target_of
from flows.model.model import Model
from tests.flows.model.programs import graph_of

LATENTS = (
    "(normal 0 1)",
    "(beta 1 1)",
    "(poisson 2)",
    "(uniform-discrete 0 5)",
    "(flip 0.5)",
    "(categorical [[:a 0.5] [:b 0.5]])",
    "(mvn [0 0] [[1 0] [0 1]])",
    "(dirichlet [1 1 1])",
    "(if (sample (flip 0.5)) (normal 0 1) (gamma 1 1))",
)
OBSERVES = (
    "(observe (normal (get v 1) 1) 1.0)",
    "(observe (normal (get [1.0 2.0 3.0] v) 1) 1.0)",
    "(observe (normal 0 v) 1.0)",
    "(observe (flip v) true)",
    "(observe (dirac v) 1)",
    "(observe (discrete v) 3)",
    "(observe (binomial v 0.5) 1)",
    "(observe (normal (get {:a 1.0 :b 2.0} v) 1) 0.5)",
    "(observe (normal (sample (uniform-discrete 0 v)) 1) 1.0)",
    "nil",
)
RESULTS = ("v", "(get v 0)", "{:a [v 1]}", "(nth [1 2] v)")
PROGRAMS = [
    f"(let [v (sample {latent})] {observe} {result})"
    for (latent, observe), result in zip(
        itertools.product(LATENTS, OBSERVES), itertools.cycle(RESULTS), strict=False
    )
]


def problems(work, argument):
    """What is said against it; empty if nothing."""
    try:
        work(argument)
    except BridgeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("text", PROGRAMS)
def test_check_takes_what_infer_answers_and_nothing_else(text):
    graph = graph_of(text)
    refused = problems(check_answerable, graph)
    answers = []

    def answer(graph):
        model = Model.from_graph(graph)
        answers.append(flows.infer(model, num_particles=100, budget=3.0))

    assert problems(answer, graph) == refused
    assert all(found.is_trusted or found.cautions for found in answers)


def test_programs_of_both_kinds_are_tried():
    refused = [problems(check_answerable, graph_of(text)) for text in PROGRAMS]
    assert 20 < sum(map(bool, refused)) < len(PROGRAMS) - 20


def test_what_is_done_with_discrete_latents_is_said_with_the_method(tmp_path):
    path = tmp_path / "p.daphne"
    path.write_text(
        "(let [x (sample (normal 0 1)) k (sample (poisson (exp x)))]"
        " (observe (normal k 1) 2.0) k)"
    )
    answer = flows.infer(flows.Model.compile(path), num_particles=2000)
    assert "; summed out: k; cut off where nothing is left: k" in answer.why


def test_nothing_is_said_of_a_model_without_discrete_latents():
    model = Model.from_graph(graph_of("(sample (normal 0 1))"))
    assert Treatment.of(target_of(model)) == Treatment()
    assert Treatment().clause() == ""
