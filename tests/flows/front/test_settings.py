"""Tests of flows.front.settings."""

import pytest

import flows
from flows.errors import FlowsError
from flows.front.settings import seconds_of, training_settings
from flows.training.config import TrainingConfig

ARTIFACT = "tests/golden/artifacts/v3-finite-normal-pair/artifact"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("90s", 90), (" 10m ", 600), ("1.5h", 5400), (0.5, 0.5), (3, 3)],
)
def test_a_duration_is_a_number_with_a_unit_or_seconds(given, seconds):
    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "soon", "-1", "0s", "1d", "1m30s", 0, -2.0])
def test_what_is_no_duration_above_zero_is_refused(given):
    with pytest.raises(FlowsError, match="budget: not a duration"):
        seconds_of(given)


def test_a_file_a_mapping_and_a_value_give_the_same_settings(tmp_path):
    (tmp_path / "t.toml").write_text("batch_size = 64\n[flow]\nlayers = 3\n")
    mapping = training_settings({"batch_size": 64, "flow": {"layers": 3}})
    assert training_settings(tmp_path / "t.toml") == mapping
    assert training_settings(str(tmp_path / "t.toml")) == mapping
    assert training_settings(mapping) == mapping != training_settings()
    assert training_settings() == TrainingConfig()


def test_what_is_given_beside_settings_replaces_theirs():
    found = training_settings(
        {"augment": 5}, budget="1m", augment=0, objective="forward"
    )
    assert (found.budget_seconds, found.augment, found.objective) == (60, 0, "forward")


def test_another_kind_comes_with_its_own_defaults_beside_what_was_chosen():
    plain = training_settings({"batch_size": 64, "flow": {"layers": 3}})
    found = training_settings(plain, kind="autoregressive")
    assert found == training_settings({"batch_size": 64}, kind="autoregressive")
    assert found.learning_rate != plain.learning_rate


def test_every_problem_of_a_file_has_its_place(tmp_path):
    path = tmp_path / "t.toml"
    path.write_text("batch_size = 'many'\nspeed = 3\n")
    with pytest.raises(FlowsError) as caught:
        training_settings(path)
    wheres = {p.where for p in caught.value.problems}
    assert wheres == {f"{path}, batch_size", f"{path}, speed"}


def test_a_kind_of_flow_that_is_not_there_is_refused():
    assert training_settings(kind="cnf") == training_settings()
    for config in (None, TrainingConfig()):
        with pytest.raises(FlowsError, match=r"kind: unknown kind .*perhaps cnf"):
            training_settings(config, kind="cfn")


@pytest.mark.parametrize(
    "call",
    [
        flows.infer,
        flows.train,
        flows.refine,
        lambda model: flows.learn(model, [{"y": 1.0}], ["m"]),
        lambda model: flows.load(ARTIFACT, model),
    ],
)
def test_a_path_in_place_of_a_model_is_refused_with_what_makes_one_of_it(call):
    with pytest.raises(FlowsError, match=r"expected Model\.compile") as no:
        call("clj-programs/arithmetic_circuit.daphne")
    assert str(no.value).endswith("got str")
