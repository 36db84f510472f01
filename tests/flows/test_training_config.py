"""Tests of flows.training_config."""

import pytest

from flows.training_config import (
    ConfigurationError,
    TrainingConfig,
    training_config_from,
)


def test_empty_mapping_gives_the_defaults():
    assert training_config_from({}, "train.toml") == TrainingConfig()


def test_resolved_mapping_is_read_back_equal():
    config = training_config_from(
        {"batch_size": 7, "average": 0, "flow": {"hidden": 3, "residual": True}}, "x"
    )
    assert config.average == 0.0
    assert isinstance(config.average, float)
    assert training_config_from(config.as_mapping(), "x") == config


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"bath_size": 3}, "train.toml, bath_size: unknown key; expected one of"),
        ({"flow": {"width": 3}}, "train.toml, flow, width: unknown key; expected one"),
        ({"batch_size": "3"}, "batch_size: wrong type; expected a whole number; got"),
        ({"batch_size": 3.5}, "batch_size: wrong type; expected a whole number; got"),
        (
            {"learning_rate": True},
            "learning_rate: wrong type; expected a number; got T",
        ),
        ({"batch_size": 0}, "batch_size: out of bounds; expected 1 <= value"),
        ({"average": 2.0}, "average: out of bounds; expected 0 <= value <= 1; got 2"),
        ({"objective": "elbo"}, "objective: unknown objective; expected one of symme"),
        ({"flow": 3}, "flow: not a table; expected a table; got 3"),
        ({"flow": {"residual": 1}}, "residual: wrong type; expected true or false"),
        ({"flow": {"layers": 1}}, "layers: out of bounds; expected 2 <= value <= 64"),
        ({"budget_seconds": 0}, "no end; expected budget_seconds or max_iterations"),
    ],
)
def test_wrong_entry_is_refused_with_its_place(mapping, sentence):
    with pytest.raises(ConfigurationError) as caught:
        training_config_from(mapping, "train.toml")
    assert sentence in str(caught.value)
    assert "got" in str(caught.value)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        training_config_from({"a": 1, "batch_size": 0, "flow": {"b": 2}}, "f")
    assert len(caught.value.problems) == 3
