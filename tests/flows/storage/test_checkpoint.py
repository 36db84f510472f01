"""Tests of flows.storage.checkpoint: what is saved comes back, or is refused."""

from dataclasses import replace

import pytest
import torch

from flows.errors import ArtifactError
from flows.storage.checkpoint import RunKey, load_checkpoint, save_checkpoint
from flows.training.state import TrainingState

KEY = RunKey("sha256:0", 3, {"batch_size": 7, "flow": {"hidden": 2}})


@pytest.fixture
def saved(tmp_path):
    tensors = {
        "weights.values": torch.arange(3.0),
        "count": torch.tensor(5, dtype=torch.int64),
        "none": torch.zeros(0),
    }
    state = TrainingState(tensors, {"iteration": 4, "best": None, "status": "ok"})
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(state, KEY, path)
    return path, state


def refusal(path):
    """Return what loading says against a file, or nothing."""
    try:
        load_checkpoint(path, KEY)
    except ArtifactError as error:
        return str(error)
    return ""


def same(one, other):
    return (
        dict(one.values) == dict(other.values)
        and set(one.tensors) == set(other.tensors)
        and all(
            torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors
        )
    )


def test_a_checkpoint_comes_back_as_it_was(saved):
    path, state = saved
    assert same(load_checkpoint(path, KEY), state)


def test_a_run_from_before_there_were_heads_goes_on_without_them(saved):
    path, state = saved
    key = replace(KEY, config={**KEY.config, "heads": "auto"})
    assert same(load_checkpoint(path, key), state)
    other = replace(KEY, config={**KEY.config, "heads": "all"})
    with pytest.raises(ArtifactError, match=r"another configuration.*heads = all"):
        load_checkpoint(path, other)


def test_a_run_from_before_there_were_contexts_goes_on_without_them(tmp_path):
    flow = {"hidden": 48}
    before = replace(KEY, config={"kind": "autoregressive", "flow": flow})
    path = tmp_path / "checkpoint.safetensors"
    state = TrainingState({"a": torch.zeros(2)}, {"iteration": 3})
    save_checkpoint(state, before, path)
    for context in (0, 10):
        now = {**before.config, "flow": {**flow, "context": context}}
        if context == 0:
            assert same(load_checkpoint(path, replace(KEY, config=now)), state)
        else:
            with pytest.raises(ArtifactError, match="another configuration"):
                load_checkpoint(path, replace(KEY, config=now))


def test_of_settings_that_differ_the_kind_is_named(saved):
    path, _ = saved
    key = replace(KEY, config={"augment": 3, "kind": "cnf", "z": 1})
    with pytest.raises(ArtifactError, match="expected kind = cnf; got no kind"):
        load_checkpoint(path, key)


def test_only_the_settings_that_differ_are_shown(tmp_path):
    flow = {"hidden": 48, "layers": 3, "forms": 24}
    before = {"kind": "autoregressive", "augment": 2, "batch_size": 7, "flow": flow}
    now = {**before, "augment": {"default": 1}, "flow": {**flow, "hidden": 32}}
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(TrainingState({}, {}), replace(KEY, config=before), path)
    with pytest.raises(ArtifactError) as caught:
        load_checkpoint(path, replace(KEY, config=now))
    assert str(caught.value).endswith(
        "; expected no augment, augment.default = 1, flow.hidden = 32"
        "; got augment = 2, no augment.default, flow.hidden = 48"
    )


@pytest.mark.parametrize("change", [lambda b: b ^ 1, lambda b: b ^ 0x80, lambda b: 0])
def test_every_changed_byte_is_refused_in_a_sentence_or_harmless(saved, change):
    path, state = saved
    content = path.read_bytes()
    refused = 0
    for place, byte in enumerate(content):
        if change(byte) == byte:
            continue
        path.write_bytes(content[:place] + bytes([change(byte)]) + content[place + 1 :])
        said = refusal(path)
        if said:
            assert "the checkpoint is damaged" in said
            assert "\n" not in said
            refused += 1
        else:
            assert same(load_checkpoint(path, KEY), state)
    assert refused > 0.8 * len(content)


def test_every_cut_is_refused_in_a_sentence(saved):
    path, _ = saved
    content = path.read_bytes()
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match="the checkpoint is damaged"):
            load_checkpoint(path, KEY)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (RunKey("sha256:1", 3, KEY.config), "another model"),
        (RunKey("sha256:0", 4, KEY.config), "another seed"),
        (RunKey("sha256:0", 3, {**KEY.config, "batch_size": 8}), "batch_size = 8"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(saved, key, sentence):
    with pytest.raises(ArtifactError, match=sentence):
        load_checkpoint(saved[0], key)


def test_values_without_end_come_back_though_json_has_none(tmp_path):
    values = {"best": float("inf"), "last": [-float("inf"), 0.5], "in": {"of": {}}}
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(TrainingState({}, values), KEY, path)
    assert b"Infinity" not in path.read_bytes()
    assert load_checkpoint(path, KEY).values == values
