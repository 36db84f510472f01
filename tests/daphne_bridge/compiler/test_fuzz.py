"""Tests that broken programs end in a document or in the package's own error."""

import json
import time
from itertools import islice

import pytest

from daphne_bridge.compiler import Limits, compile_program
from daphne_bridge.errors import BridgeError, CompileError

from .fuzz import check, mutants


def test_mutants_end_in_a_document_or_an_error_with_a_place():
    for mutant in islice(mutants(1000), 250):
        start = time.process_time()
        check(mutant)
        assert time.process_time() - start < 20, f"seed {mutant.seed}"


MANY = 20_000
NESTED = {
    "calls": ("(+ 1 ", "1", ")"),
    "vectors": ("[", "1", "]"),
    "lets": ("(let [x 1] ", "x", ")"),
    "branches": ("(if true ", "1", " 2)"),
    "quotes": ("'", "1", ""),
    "maps": ("{:a ", "1", "}"),
}


@pytest.mark.parametrize("kind", NESTED)
def test_terms_of_any_depth_compile_or_are_refused(kind):
    left, core, right = NESTED[kind]
    program = left * MANY + core + right * MANY
    if kind == "quotes":
        with pytest.raises(BridgeError, match=r"deep\.daphne:1:2: "):
            compile_program(program, "deep.daphne")
    else:
        document = compile_program(program, "deep.daphne").document
        assert document[1]["V"] == []


def test_a_deep_link_function_compiles():
    mean = "(+ 1 " * MANY + "x" + ")" * MANY
    program = f"(let [x (sample (normal 0 1))] (sample (normal {mean} 1)))"
    document = compile_program(program, "deep.daphne").document
    term, depth = document[1]["P"]["sample1"][1][1], 0
    while isinstance(term, list):
        term, depth = term[2], depth + 1
    assert (term, depth) == ("sample0", MANY)


REFUSED = {
    "endless recursion": "(defn f [n] (+ 1 (f n))) (f 1)",
    "random recursion": "(defn f [n] (if (sample (flip 0.5)) n (f (+ n 1)))) (f 0)",
    "two endless calls": "(defn f [n] (+ (f n) (f n))) (f 1)",
    "a product of loops": "(foreach 999 [] (foreach 999 [] (foreach 999 [] 1)))",
    "a huge range": "(range 100000000000)",
    "a growing number": "(defn f [i a] (* a a)) (loop 60 10N f)",
    "a growing vector": "(defn f [i a] (concat a a)) (loop 60 [1] f)",
    "a growing string": '(defn f [i a] (str a a)) (loop 60 "ab" f)',
    "a growing document": (
        "(defn f [i a] [a a]) (sample (discrete (loop 60 (sample (normal 0 1)) f)))"
    ),
    "a growing constant": "(defn f [i a] [a a]) (loop 60 1 f)",
    "growing constants compared": (
        "(defn f [i a] [a a]) (let [a (loop 40 1 f) b (loop 40 1 f)] (= a b))"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_end_or_fit_is_refused(what):
    limits = Limits(steps=100_000, depth=5_000)
    with pytest.raises(CompileError) as caught:
        compile_program(REFUSED[what], "large.daphne", limits=limits)
    assert caught.value.problems[0].expected


def test_a_chain_of_sums_is_shared_until_it_is_written():
    chain = " ".join(f"x{i + 1} (+ x{i} x{i})" for i in range(16))
    program = f"(let [x0 (sample (normal 0 1)) {chain}] (sample (normal x16 1)))"
    start = time.process_time()
    document = compile_program(program, "chain.daphne").document
    assert time.process_time() - start < 1
    assert json.dumps(document).count("sample0") > 2**16
