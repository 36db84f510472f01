"""Tests of daphne_bridge.compiler.drawn_shapes: random vectors of known sizes."""

import numpy as np
import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError

from ..refusals import refusal

V = "v (sample (mvn [0 x] [[1 0] [0 1]]))"
W = "w (sample (mvn [1 1] [[1 0] [0 1]]))"
P = "p (sample (dirichlet [1 1]))"
M = "m (sample (wishart 3 [[1 0] [0 1]]))"
Z = "z (sample (flip 0.5))"
PROGRAM = "(let [x (sample (normal 0 1)) {}] {})"


def result(latents, body):
    return compile_program(PROGRAM.format(latents, body), "p.daphne").document[2]


@pytest.mark.parametrize(
    ("latents", "body", "same"),
    [
        (V, "(dot v [1 2])", "(+ (+ 0 (* (get v 0) 1)) (* (get v 1) 2))"),
        (V, "(foreach (count v) [y v] (- y))", "[(- (get v 0)) (- (get v 1))]"),
        (P, "(apply + p)", "(+ (get p 0) (get p 1))"),
        (P, "(reduce + (rest p))", "(get p 1)"),
        (M, "(mapv first m)", "[(first (get m 0)) (first (get m 1))]"),
        (
            M,
            "(foreach (count (get m 0)) [y (get m 0)] (- y))",
            "[(- (get (get m 0) 0)) (- (get (get m 0) 1))]",
        ),
        (
            f"{V} {W} {Z}",
            "(mapv - (if z v w))",
            "[(- (get (if z v w) 0)) (- (get (if z v w) 1))]",
        ),
        (
            f"{V} {W} {Z}",
            "(mapv - (get [v w] (if z 1 0)))",
            "[(- (get (get [v w] (if z 1 0)) 0)) (- (get (get [v w] (if z 1 0)) 1))]",
        ),
        (
            Z,
            "(mapv - (get [[1 2] [3 4]] (if z 1 0)))",
            "(let [row (get [[1 2] [3 4]] (if z 1 0))]"
            " [(- (get row 0)) (- (get row 1))])",
        ),
        (
            f"{V} u (sample (mvn v [[1 0] [0 1]]))",
            "(mapv - u)",
            "[(- (get u 0)) (- (get u 1))]",
        ),
        (
            V,
            "(mapv first (mat-mul [[1 2] [3 4]] (mat-transpose [v])))",
            "(let [m (mat-mul [[1 2] [3 4]] (mat-transpose [v]))]"
            " [(first (get m 0)) (first (get m 1))])",
        ),
    ],
)
def test_a_vector_that_is_drawn_is_unrolled_by_get(latents, body, same):
    assert result(latents, body) == result(latents, same)


@pytest.mark.parametrize(
    ("latents", "body"),
    [
        (V + " u (sample (mvn [0 0 0] [[1 0 0] [0 1 0] [0 0 1]])) " + Z, "(if z v u)"),
        (Z, "(get [[1] [2 3]] (if z 1 0))"),
        ("", "x"),
    ],
)
def test_a_value_of_no_certain_size_has_no_known_count(latents, body):
    with_map = result, latents, f"(map - {body})"
    assert "known length" in str(refusal(CompileError, *with_map))


def _without_heads(term):
    if not isinstance(term, list):
        return term
    return [_without_heads(item) for item in term if item != "vector"]


MATRICES = {
    "(mat-mul X (mat-transpose [v]))": (3, 1),
    "(mat-mul X v)": (3,),
    "(mat-mul v [[1 2 3] [4 5 6]])": (3,),
    "(mat-mul [v v v] m X3)": (3, 3),
    "(mat-mul v)": (2, 1),
    "(mat-mul [v])": (1, 2),
    "(mat-transpose v)": (2,),
    "(mat-transpose [v v v])": (2, 3),
    "(mat-add v [1 2])": (2,),
    "(mat-add (mat-mul X (mat-transpose [v])) [1 2 3])": (3, 1),
    "(mat-tanh m)": (2, 2),
    "(mat-relu (mat-tanh v))": (2,),
    "(mat-repmat v 2 3)": (4, 3),
    "(mat-mul X [[(* 2 x)] [(inc x)]])": (3, 1),
}


@pytest.mark.parametrize(("body", "shape"), MATRICES.items())
def test_a_function_of_matrices_returns_what_it_computes(body, shape):
    given = "X [[1 0] [1 1] [1 2]] X3 [[1 2 3] [4 5 6]]"
    plain = f"(let [x 0.5 v [1 2] m [[1 2] [3 4]] {given}] {body})"
    computed = compile_program(plain, "p.daphne").document[2]
    assert np.shape(_without_heads(computed)) == shape
    latents = f"{V} {M} {given} it {body}"
    for part, count in zip(("it", "(get it 0)"), shape, strict=False):
        either = f"(if (= (count {part}) {count}) 1 (sample (normal 0 1)))"
        assert result(latents, either) == 1


@pytest.mark.parametrize(
    "body", ["(mat-mul X y)", "(mat-mul [v] X)", "(mat-repmat v k 2)", "(mat-tanh y)"]
)
def test_matrices_of_no_certain_size_have_no_known_count(body):
    latents = f"X [[1 2] [3 4] [5 6]] {V} {Z} k (sample (poisson 2)) y (if z [1] v)"
    with_map = result, latents, f"(map - {body})"
    assert "known length" in str(refusal(CompileError, *with_map))


def test_a_count_that_is_certain_decides_a_condition():
    assert result(V, "(if (= (count v) 2) 1 (sample (normal 0 1)))") == 1
