"""Tests of flows.training.config."""

import pytest

from flows.errors import ArgumentError
from flows.model.layout import Layout, Variable
from flows.training.config import (
    TrainingConfig,
    nuisance_counts,
    training_config_from,
)

LONG = "a" * 5_000


def test_empty_mapping_gives_the_defaults():
    assert training_config_from({}, "train.toml") == TrainingConfig()


def test_resolved_mapping_is_read_back_equal():
    config = training_config_from(
        {"batch_size": 7, "average": 0, "flow": {"hidden": 3, "residual": True}}, "x"
    )
    assert config.average == 0.0
    assert isinstance(config.average, float)
    assert training_config_from(config.as_mapping(), "x") == config


def _layout(*labels):
    return Layout(
        tuple(
            Variable(f"sample{i}", label, (), i, i + 1, i, i + 1)
            for i, label in enumerate(labels)
        ),
        (),
    )


@pytest.mark.parametrize(
    ("augment", "counts"),
    [
        (3, (3, 3, 3)),
        ({}, (2, 2, 2)),
        ({"default": 1, "b": 10}, (1, 10, 1)),
        ({"default": 0, "sample0": 4, "c": 1}, (4, 0, 1)),
    ],
)
def test_nuisances_are_counted_per_latent_by_either_name(augment, counts):
    config = training_config_from({"augment": augment}, "x")
    assert training_config_from(config.as_mapping(), "x") == config
    found = nuisance_counts(config.augment, _layout("a", "b", "c"))
    assert found == {f"sample{i}": count for i, count in enumerate(counts)}


def test_nuisances_that_are_chosen_are_no_numbers_yet():
    config = training_config_from({"augment": "auto"}, "x")
    assert training_config_from(config.as_mapping(), "x") == config
    with pytest.raises(
        ArgumentError, match=r"augment: auto .* a whole number, or a table"
    ):
        nuisance_counts(config.augment, _layout("a"))


def test_an_entry_serves_all_latents_of_a_common_name():
    found = nuisance_counts({"default": 0, "w": 5}, _layout("a", "w[0]", "w[1]"))
    assert found == {"sample0": 0, "sample1": 5, "sample2": 5}


def test_nuisances_of_no_latent_or_of_one_twice_are_refused():
    with pytest.raises(ArgumentError) as caught:
        nuisance_counts({"a": 1, "sample0": 1, "no": 2}, _layout("a", "b"))
    assert tuple(map(str, caught.value.problems)) == (
        "augment, sample0: this latent has two entries; expected one; got sample0",
        "augment, no: no latent of this name; expected default or one of a, b; "
        "got 'no'",
    )


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"flow": {"kind": "finite"}}, ", or kind above [flow], where it belongs; got"),
        ({"augment": {LONG: "x"}}, f"train.toml, augment, {LONG[:57]}...: wrong type"),
        ({"augment": LONG}, f"or auto; got '{LONG[:56]}..."),
        ({"bath_size": 3}, "train.toml, bath_size: unknown key; expected one of"),
        ({"flow": {"width": 3}}, "train.toml, flow of cnf, width: unknown key; expec"),
        ({"batch_size": "3"}, "batch_size: wrong type; expected a whole number; got"),
        ({"batch_size": 3.5}, "batch_size: wrong type; expected a whole number; got"),
        (
            {"learning_rate": True},
            "learning_rate: wrong type; expected a number; got T",
        ),
        ({"batch_size": 0}, "batch_size: out of bounds; expected 1 <= value"),
        ({"average": 2.0}, "average: out of bounds; expected 0 <= value <= 1; got 2"),
        (
            {"gradient": "score"},
            "gradient: unknown gradient; expected one of path, tot",
        ),
        ({"objective": "elbo"}, "objective: unknown objective; expected one of symme"),
        ({"flow": 3}, "flow: not a table; expected a table; got 3"),
        ({"flow": {"residual": 1}}, "residual: wrong type; expected true or false"),
        ({"flow": {"layers": 1}}, "layers: out of bounds; expected 2 <= value <= 64"),
        ({"augment": 1001}, "augment: out of bounds; expected 0 <= value <= 1000; got"),
        ({"augment": {"z": -1}}, "augment, z: out of bounds; expected 0 <= value"),
        ({"augment": {"z": 1.5}}, "augment, z: wrong type; expected a whole number;"),
        ({"augment": "aut"}, "augment: unknown word; expected a whole number, a table"),
        (
            {"augment": "auto", "kind": "finite"},
            "augment: auto is for flows of kind cnf that serve all data sets; exp",
        ),
        (
            {"augment": "auto", "amortised": False},
            "or a table of them by name; got auto, kind cnf, amortised false",
        ),
        ({"num_steps": 31}, "num_steps: more steps than are allowed; expected at most"),
        ({"budget_seconds": 0}, "no end; expected budget_seconds or max_iterations"),
    ],
)
def test_wrong_entry_is_refused_with_its_place(mapping, sentence):
    with pytest.raises(ArgumentError) as caught:
        training_config_from(mapping, "train.toml")
    assert sentence in str(caught.value)
    assert "got" in str(caught.value)


@pytest.mark.parametrize(
    ("mapping", "kind", "kinds"),
    [
        ({"flow": {"forms": 8}}, "cnf", ["autoregressive"]),
        (
            {"kind": "finite", "flow": {"last_layer_scale": 0.2}},
            "finite",
            ["cnf", "autoregressive"],
        ),
    ],
)
def test_a_setting_of_another_kind_is_refused_with_the_kinds_that_have_it(
    mapping, kind, kinds
):
    (key,) = mapping["flow"]
    named = " or ".join(f'kind = "{each}"' for each in kinds)
    with pytest.raises(ArgumentError) as caught:
        training_config_from(mapping, "t.toml")
    said = str(caught.value)
    assert said.startswith(f"t.toml, flow of {kind}, {key}: unknown key; expected one")
    assert f", or {named}, which has this key; got" in said
    for each in kinds:
        config = training_config_from({**mapping, "kind": each}, "t.toml")
        assert getattr(config.flow, key) == mapping["flow"][key]


def test_all_problems_are_told_at_once():
    with pytest.raises(ArgumentError) as caught:
        training_config_from({"a": 1, "batch_size": 0, "flow": {"b": 2}}, "f")
    assert len(caught.value.problems) == 3
