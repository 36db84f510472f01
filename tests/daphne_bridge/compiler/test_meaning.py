"""Tests that compiling, desugaring and simplifying keep what a program means."""

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daphne_bridge.compiler import compile_program
from daphne_bridge.compiler.desugar import desugar
from daphne_bridge.compiler.forms import show
from daphne_bridge.compiler.reader import read
from daphne_bridge.compiler.source import Source

from ...strategies import forms, programs, text
from .interpreter import run, weigh

DRAWS = st.lists(
    st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=8
)
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
PROGRAMS = settings(max_examples=40, suppress_health_check=SLOW)


def written(program):
    return "\n".join(map(text, program))


def same(a, b):
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def assert_means(document, outcome):
    log_density, result = weigh(document, outcome.latents)
    assert same(log_density, outcome.log_density)
    assert same(result, outcome.result)


@PROGRAMS
@given(programs(), DRAWS)
def test_a_document_has_the_joint_density_of_its_program(program, draws):
    document = compile_program(written(program), "drawn.daphne").document
    assert_means(document, run(program, draws))


@PROGRAMS
@given(programs(), DRAWS)
def test_desugaring_keeps_the_joint_density(program, draws):
    source = Source(written(program), "drawn.daphne")
    core = [desugar(form, source) for form in read(source.text, source.filename)]
    document = compile_program("\n".join(map(show, core)), "core.daphne").document
    assert_means(document, run(program, draws))


@PROGRAMS
@given(programs())
def test_desugaring_twice_is_desugaring_once(program):
    source = Source(written(program), "drawn.daphne")
    for form in read(source.text, source.filename):
        core = desugar(form, source)
        assert desugar(core, source) == core


@PROGRAMS
@given(programs())
def test_edges_are_the_names_in_the_link_functions(program):
    graph = compile_program(written(program), "drawn.daphne").document[1]
    for name, link in graph["P"].items():
        if link[0] == "if":
            link = link[2]
        parents = {v for v in graph["V"] if name in graph["A"].get(v, [])}
        assert parents == names_in(link[1]) & set(graph["V"])


def names_in(term):
    if isinstance(term, list):
        return set().union(*map(names_in, term))
    return {term} if isinstance(term, str) else set()


@settings(max_examples=100)
@given(st.lists(forms(), max_size=3))
def test_reading_what_is_shown_gives_the_same_forms(items):
    assert read(" ".join(map(show, items)), "shown.daphne") == tuple(items)
