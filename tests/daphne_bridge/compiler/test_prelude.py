"""Tests of the functions that the language brings, against numpy and the gallery."""

import json
from pathlib import Path

import numpy as np
import pytest

from daphne_bridge.compiler import compile_program
from daphne_bridge.compiler.prelude import prelude
from daphne_bridge.errors import CompileError
from daphne_bridge.language.families import FAMILIES
from daphne_bridge.language.primitives import PRIMITIVES

from ..refusals import refusal

GALLERY = Path(__file__).parents[3] / "clj-programs"
RANDOM = np.random.default_rng(5)


def result(text):
    return untagged(compile_program(text, "p").document[2])


def untagged(value):
    if isinstance(value, list):
        return [untagged(x) for x in value if x != "vector"]
    return value


def edn(array):
    return json.dumps(np.asarray(array).tolist()).replace(",", "")


def convolved(inputs, kernels, bias, stride):
    size = kernels.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (size, size), (1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("crsij,kcij->krs", windows, kernels) + bias[:, None, None]


U, V = RANDOM.normal(size=(2, 4))
A, B = RANDOM.normal(size=(2, 3, 4))
X, Y = RANDOM.normal(size=(2, 2, 3, 3))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (f"(dot {edn(U)} {edn(V)})", U @ V),
        (f"(mmul {edn(A)} {edn(V)})", A @ V),
        (f"(inner-square {edn(A)} {edn(B)})", (A * B).sum()),
        (f"(inner-cubic {edn(X)} {edn(Y)})", (X * Y).sum()),
        (f"(slice-square {edn(A)} 2 1 1 2)", A[1:3, 2:4]),
        (f"(slice-cubic {edn(X)} 1 2 1 0)", X[:, 2:3, 0:1]),
        (f"(elem-add {edn(U)} 2.5)", U + 2.5),
        (f"(elem-add {edn(X)} 2.5)", X + 2.5),
        ("(const-vector 1.5 3)", np.full(3, 1.5)),
    ],
)
def test_a_function_is_numpys(call, expected):
    np.testing.assert_allclose(result(call), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("channels", "rows", "columns", "size", "stride"),
    [(1, 9, 9, 3, 2), (2, 4, 4, 2, 2), (3, 5, 7, 2, 1), (2, 6, 4, 3, 3)],
)
def test_a_convolution_layer_is_numpys(channels, rows, columns, size, stride):
    inputs = RANDOM.normal(size=(channels, rows, columns))
    kernels = RANDOM.normal(size=(2, channels, size, size))
    bias = RANDOM.normal(size=2)
    call = f"(conv2d {edn(inputs)} {edn(kernels)} {edn(bias)} {stride})"
    expected = convolved(inputs, kernels, bias, stride)
    np.testing.assert_allclose(result(call), expected, rtol=1e-12)


def test_a_layer_of_random_pixels_is_the_gallerys():
    text = (GALLERY / "convolution.daphne").read_text()
    _, _, own = text.partition("(let [weights")
    own = own.replace("(convolve pixel kernel 2 4)", LAYER)
    assert LAYER in own
    ours = compile_program(f"(let [weights{own}", "layer").document[1]["P"]
    theirs = compile_program(text, "gallery").document[1]["P"]
    assert len(theirs) == len(ours) == 106
    for name, link in ours.items():
        if link[2:] and name.startswith("output"):
            zero, link[1][1] = link[1][1][1], link[1][1][2]
            assert zero == 0
            link[1][1] = without_channel(link[1][1])
        assert link == theirs[name]


LAYER = "(first (conv2d [pixel] [[kernel]] [0] 2))"


def without_channel(total):
    """Return the sum over the only channel of a sum over channels."""
    head, zero, inner = total
    assert (head, zero) == ("+", 0)
    return inner


def test_a_layer_is_sampled_around_its_means():
    program = "(let [x (sample (normal 0 1))] (sample-layer [[[x (* 2 x)]]]))"
    document = compile_program(program, "p").document
    links = list(document[1]["P"].values())
    assert links[1:] == [
        ["sample*", ["normal", "sample0", 1]],
        ["sample*", ["normal", ["*", 2, "sample0"], 1]],
    ]
    assert untagged(document[2]) == [[["sample1", "sample2"]]]


def test_numbers_may_be_added_to_random_entries():
    program = "(let [x (sample (normal 0 1))] (elem-add [[x (+ x 1)] [2 3]] x))"
    assert result(program) == [
        [["+", "sample0", "sample0"], ["+", ["+", "sample0", 1], "sample0"]],
        [["+", 2, "sample0"], ["+", 3, "sample0"]],
    ]


@pytest.mark.parametrize(
    "program",
    [
        "(defn dot [u v] 7) (dot [1] [2])",
        "(let [dot 7] dot)",
        "(defn dot-step [] 1) (defn count [x] 1) (+ 5 (dot [1] [2]))",
        "(defn three [v] (* 7 (count v))) (defn f [dot] (dot [1])) (f three)",
    ],
)
def test_what_a_program_defines_hides_the_prelude_and_never_enters_it(program):
    assert result(program) == 7


def test_an_error_inside_the_prelude_is_placed_at_its_call():
    program = "(let [k 1]\n  (+ k (dot [1 2] [1])))"
    assert refusal(CompileError, compile_program, program, "p").where == "p:2:8"


def test_the_prelude_hides_nothing_of_the_language():
    assert not prelude().keys() & (PRIMITIVES.keys() | FAMILIES.keys())
    names = {"dot", "mmul", "conv2d", "elem-add", "const-vector", "sample-layer"}
    assert names <= prelude().keys()


def test_a_document_lists_the_functions_of_the_program_only():
    document = compile_program("(defn f [v] (dot v v)) (f [1 2])", "p").document
    assert list(document[0]) == ["f"]
