"""Tests of daphne_bridge.inversion.document."""

import json

import pytest
from hypothesis import given, settings

from daphne_bridge.errors import DocumentError
from daphne_bridge.inversion.document import (
    NAMED_EDGES,
    dump_inverse,
    format_inverse,
    load_inverse,
    parse_inverse,
)
from daphne_bridge.inversion.elimination_plans import PUBLISHED
from daphne_bridge.inversion.nami import Inverse, invert_dag

from ..dags import Example, arithmetic_circuit, binary_tree, dags, state_space


def inverse_of(example: Example, **options) -> Inverse:
    return invert_dag(example.names, example.parents, example.observed, **options)


def circuit(**options) -> Inverse:
    labels = {"z0": 'say "mean"', "x1": "größe"}
    return inverse_of(
        arithmetic_circuit(), digest="sha256:12", labels=labels, **options
    )


def changed(**fields) -> str:
    """Return the circuit's file with some fields replaced, or removed if None."""
    data = json.loads(format_inverse(circuit())) | fields
    return json.dumps({key: value for key, value in data.items() if value is not None})


@settings(max_examples=100)
@given(dags(8))
def test_reading_what_was_written_gives_the_same_inverse(example) -> None:
    inverse = inverse_of(example)
    assert parse_inverse(format_inverse(inverse)) == inverse


@pytest.mark.parametrize("example", [state_space(120), binary_tree(800)])
def test_a_large_inverse_is_written_as_runs_and_read_back(example) -> None:
    inverse = inverse_of(example, plans=PUBLISHED)
    assert inverse.num_edges > NAMED_EDGES
    text = format_inverse(inverse)
    assert "parent_runs" in text
    assert parse_inverse(text) == inverse


def test_a_file_keeps_labels_and_digest(tmp_path) -> None:
    inverse = circuit()
    dump_inverse(inverse, tmp_path / "inverse.json")
    loaded = load_inverse(tmp_path / "inverse.json", digest="sha256:12")
    assert loaded == inverse
    assert loaded.labels == {"z0": 'say "mean"', "x1": "größe"}
    assert loaded.digest == "sha256:12"


def test_a_small_file_names_the_parents() -> None:
    data = json.loads(format_inverse(circuit(plans=PUBLISHED[:1])))
    assert data["parents"]["z5"] == ["x0", "x1"]
    assert data["parents"]["z4"] == ["z5", "z3"]
    assert data["candidates"] == [
        {
            "plan": ["topological", "min-fill", "in turn"],
            "edges": 12,
            "removable": 0,
        }
    ]


def test_a_chain_of_half_a_million_edges_takes_few_bytes() -> None:
    inverse = inverse_of(state_space(1_000), plans=PUBLISHED[:1])
    text = format_inverse(inverse)
    assert inverse.num_edges > 500_000
    assert len(text) < 60_000
    assert json.loads(text)["parent_runs"][-2:] == ["997 1000-1001", "998 1000"]


def test_runs_are_what_the_documentation_says() -> None:
    """Positions count latents, then observed: with six latents x0 and x1 are 6-7."""
    text = changed(parents=None, parent_runs=["6-7", "0 6", "0-1", "1-2", "2-3", "3"])
    inverse = parse_inverse(text)
    assert [inverse.parents[z] for z in inverse.latents[:3]] == [
        ("x0", "x1"),
        (inverse.latents[0], "x0"),
        inverse.latents[:2],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"f\.json:1:2: not JSON"),
        ("[1]", r"\$\.format: this is not an inverse; .*; got no object"),
        ('{"format": "graph"}', r"this is not an inverse; expected .*; got graph"),
        (changed(version=2), r"\$\.version: another version.*; expected 1; got 2"),
        (changed(latents=None), r"\$: 'latents' is a required property"),
        (changed(parents=None), r"\$: the parents do not.*parent_runs; got neither"),
        (changed(parent_runs=[]), r"\$: the parents do not .*; got both"),
        (changed(parents=None, parent_runs=["9" * 5000]), r"\$\.parent_runs\[0\]: "),
        (changed(extra=1), r"'extra' was unexpected"),
        (changed(graph=3), r"\$\.graph: 3 is not of type 'string'"),
        (changed(edges=9), r"\$\.edges: not the number of edges.*expected 11; got 9"),
        (changed(candidates=[]), r"\$\.candidates: \[\]"),
        (changed(plan=["reverse", "min-fill", "in turn"]), r"chosen plan does not"),
        (changed(plan=["reverse", "best", "in turn"]), r"\$\.plan\[1\]: 'best'"),
        (changed(observed=["x0", "z1"]), r"\$\.observed: also a latent.*got z1"),
        (changed(labels={"q": "r"}), r"\$\.labels: unknown node; .*; got q"),
        (changed(parents={"z0": []}), r"\$\.parents: not one entry per latent"),
        (changed(parents=None, parent_runs=["0"]), r"not one entry.*expected 6; got 1"),
        (changed(parents=None, parent_runs=["a"] * 6), r"\$\.parent_runs\[0\]: 'a'"),
        (
            changed(parents=None, parent_runs=["6-7", "9", "", "", "", ""]),
            r"\$\.parent_runs\[1\]: a run out of order or out of range; .*; got 9",
        ),
        (
            changed(parents=None, parent_runs=["7 6", "", "", "", "", ""]),
            r"expected ascending positions from 8 to 7; got 6",
        ),
        (
            changed(parents=None, parent_runs=["1", "", "", "", "", ""]),
            r"\$\.parent_runs\[0\]: a parent that is sampled later",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(text, message) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_inverse(text, "f.json")


def test_an_unknown_parent_and_a_late_parent_are_both_named() -> None:
    data = json.loads(format_inverse(circuit()))
    last, first = data["latents"][-1], data["latents"][0]
    data["parents"][first] = [last]
    data["parents"][last] = ["nobody"]
    with pytest.raises(DocumentError) as caught:
        parse_inverse(json.dumps(data), "f.json")
    late, unknown = caught.value.problems
    assert str(late) == (
        f"f.json: $.parents.{first}: a parent that is sampled later; "
        f"expected an earlier latent or an observed node; got {last}"
    )
    assert str(unknown) == (
        f"f.json: $.parents.{last}: unknown parent; "
        "expected a latent or observed; got nobody"
    )


def test_the_inverse_of_another_model_is_refused() -> None:
    message = r"another model; expected sha256:34; got sha256:12"
    with pytest.raises(DocumentError, match=message):
        parse_inverse(format_inverse(circuit()), digest="sha256:34")


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(DocumentError, match="no such file; expected an inverse"):
        load_inverse(tmp_path / "none.json")
