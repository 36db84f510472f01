"""Tests of flows.storage.artifact_checks and of the loading of hostile artifacts.

Checksums and digests are right in all of them: whoever wrote the artifact could.
"""

import json
import os
import resource
import struct
import time

import pytest
import torch
from safetensors.torch import load, save

from flows.errors import ArtifactError
from flows.storage.artifact import Artifact

from ..conftest import inputs_document
from ..saved_artifact import rewrite, save_document, save_pair

HUGE = 10**12


@pytest.fixture
def folder(tmp_path):
    save_pair(tmp_path / "artifact")
    return tmp_path / "artifact"


def refused(folder, most_seconds=3.0):
    """Return the sentence that refuses an artifact, with little time and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(folder)
    assert time.process_time() - start < most_seconds
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024  # kilobytes
    said = str(caught.value)
    assert len(caught.value.problems) == 1
    assert "\n" not in said
    assert len(said) < 1000
    return said


def same(manifest):
    """Change nothing."""


def latent(manifest, number=0):
    return manifest["layout"]["latents"][number]


def claims_free_columns(manifest):
    latent(manifest, 1)["free_stop"] = HUGE


def claims_natural_columns(manifest):
    latent(manifest, 1).update(stop=HUGE, shape=[HUGE - 1])


def claims_observed_columns(manifest):
    manifest["layout"]["observed"][1].update(stop=HUGE, shape=[HUGE - 1])


def claims_a_gap(manifest):
    latent(manifest, 1).update(free_start=HUGE, free_stop=HUGE + 1)


def claims_another_shape(manifest):
    latent(manifest)["shape"] = [HUGE, HUGE]


def claims_wide_layers(manifest):
    manifest["flow"]["config"].update(hidden=4096, layers=64)


def claims_many_nuisances(manifest):
    manifest["structure"]["nuisances"] = [1000, 1000]


def claims_one_nuisance_too_few(manifest):
    manifest["structure"]["nuisances"] = [1]


def claims_a_name_twice(manifest):
    latent(manifest, 1)["name"] = latent(manifest)["name"]


def claims_an_unknown_parent(manifest):
    name = manifest["structure"]["latents"][0]
    manifest["structure"]["parents"][name].append("nobody")


def claims_a_cycle(manifest):
    first, second = manifest["structure"]["latents"]
    manifest["structure"]["parents"][first].append(second)


def claims_a_parent_twice(manifest):
    name = manifest["structure"]["latents"][1]
    manifest["structure"]["parents"][name] *= 2


def claims_another_latent(manifest):
    manifest["structure"]["latents"][0] = "nobody"


def says_another_inverse(manifest):
    manifest["inverse"]["latents"][0] = "nobody"


def says_a_cycle_in_the_inverse(manifest):
    first, second = manifest["inverse"]["latents"]
    manifest["inverse"]["parents"][first].append(second)


def claims_another_kind(manifest):
    manifest["flow"] = {"kind": "spline", "config": {"layers": 3}}


def claims_data_of_another_width(manifest):
    manifest["data"] = [0.5] * 7


def says_no_inverse(manifest):
    del manifest["inverse"]


def claims_a_number_that_is_none(manifest):
    manifest["training"]["metrics"]["j"] = float("nan")


def claims_a_huge_number(manifest):
    latent(manifest)["free_stop"] = 10**4000


CLAIMS = [
    value for name, value in sorted(globals().items()) if name.startswith("claim")
]
# Of the inverse, which is for people: a reader that does not look at it needs none.
SAID = [value for name, value in sorted(globals().items()) if name.startswith("says")]


@pytest.mark.parametrize("claim", [*CLAIMS, *SAID], ids=lambda claim: claim.__name__)
def test_what_a_manifest_only_claims_is_never_made(folder, claim):
    rewrite(folder, claim)
    said = refused(folder)
    assert "manifest.json" in said or "weights.safetensors" in said


def with_huge_columns(manifest):
    manifest["structure"]["factors"][0]["latents"] = [HUGE]


def with_observed_columns_that_are_not_there(manifest):
    manifest["structure"]["factors"][1]["observed"] = [2]


def with_many_factors(manifest):
    manifest["structure"]["factors"] *= 100_000


def with_a_factor_too_few(manifest):
    del manifest["structure"]["factors"][0]


def with_an_edge_too_few(manifest):
    for name in manifest["structure"]["latents"]:
        manifest["structure"]["parents"][name] = []


def with_another_normalisation(manifest):
    manifest["normalisation"] = "shift and scale, then affine along the inverse"


def without_factors(manifest):
    del manifest["structure"]["factors"]


FACTOR_CLAIMS = [
    value for name, value in sorted(globals().items()) if name.startswith("with")
]


@pytest.mark.parametrize("claim", FACTOR_CLAIMS, ids=lambda claim: claim.__name__)
def test_what_a_manifest_claims_of_factors_is_checked(tmp_path, claim):
    save_document(tmp_path / "artifact", inputs_document())
    rewrite(tmp_path / "artifact", same)
    Artifact.load(tmp_path / "artifact")
    rewrite(tmp_path / "artifact", claim)
    # Reading 100,000 factors alone takes some 2.5 s of processor time.
    said = refused(tmp_path / "artifact", most_seconds=10.0)
    assert "manifest.json" in said or "weights.safetensors" in said


@pytest.mark.parametrize("value", [0.0, float("nan"), 1e30])
def test_factors_that_have_no_posterior_are_refused(tmp_path, value):
    folder = tmp_path / "artifact"
    save_document(folder, inputs_document())
    tensors = load((folder / "weights.safetensors").read_bytes())
    name = "normalisation.factor_coefficients"
    changed = save({**tensors, name: torch.full_like(tensors[name], value)})
    rewrite(folder, same, [("weights.safetensors", changed)])
    assert "golden" in refused(folder, most_seconds=20.0)


def test_the_artifact_itself_is_read(folder):
    rewrite(folder, same)
    Artifact.load(folder)


def with_header(weights, **changes):
    """Return a weights file whose first tensor's entry is changed."""
    length = struct.unpack("<Q", weights[:8])[0]
    header = json.loads(weights[8 : 8 + length])
    header["field.bias"].update(changes)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + weights[8 + length :]


def test_a_safetensors_header_cannot_claim_more_than_the_file(folder):
    weights = (folder / "weights.safetensors").read_bytes()
    length = struct.unpack("<Q", weights[:8])[0]
    for bad in (
        struct.pack("<Q", 2**63) + weights[8:],
        struct.pack("<Q", 2**64 - 1) + weights[8:],
        struct.pack("<Q", len(weights)) + weights[8:],
        struct.pack("<Q", 0) + weights[8:],
        weights[:8] + b"[" * length + weights[8 + length :],
        with_header(weights, shape=[HUGE]),
        with_header(weights, shape=[2**33, 2**33]),
        with_header(weights, data_offsets=[0, HUGE]),
        with_header(weights, data_offsets=[HUGE, 0]),
        with_header(weights, dtype="F1024"),
        with_header(weights, shape=[-1]),
        b"\x00",
        b"rubbish, and more of it",
    ):
        rewrite(folder, same, [("weights.safetensors", bad)])
        assert "weights.safetensors" in refused(folder)


def test_other_tensors_are_refused(folder):
    tensors = load((folder / "weights.safetensors").read_bytes())
    for name, tensor in (
        ("field.bias", tensors["field.bias"].to(torch.int32)),
        ("field.bias", tensors["field.bias"].half()),
        ("field.bias", tensors["field.bias"][None].clone()),
        ("field.bias", tensors["field.bias"] * float("nan")),
        ("field.weights.1", tensors["field.weights.1"][:-1].clone()),
        ("field.weights.9", tensors["field.bias"].clone()),
        ("../../etc/passwd", tensors["field.bias"].clone()),
        ("normalisation.scale", torch.zeros_like(tensors["normalisation.scale"])),
    ):
        changed = save({**tensors, name: tensor})
        rewrite(folder, same, [("weights.safetensors", changed)])
        refused(folder, most_seconds=20.0)


def test_a_damaged_golden_file_is_refused(folder):
    golden = json.loads((folder / "golden.json").read_text())
    for bad in (
        b"\x80\x81",
        b"[" * 200_000,
        b"7",
        b"{}",
        json.dumps({**golden, "base": []}).encode(),
        json.dumps({**golden, "base": [[]] * 4}).encode(),
        json.dumps({**golden, "base": golden["base"] * 1000}).encode(),
        json.dumps({**golden, "log_prob": [1.0]}).encode(),
        json.dumps({**golden, "observed": "text"}).encode(),
        json.dumps({**golden, "free": [[10**400] * 2] * 4}).encode(),
        json.dumps({**golden, "free": [[float("nan")] * 2] * 4}).encode(),
    ):
        rewrite(folder, same, [("golden.json", bad)])
        assert "golden.json" in refused(folder)


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "golden.json", "manifest.json"]
)
def test_files_elsewhere_are_not_read(folder, name, tmp_path):
    kept = (folder / name).read_bytes()
    (tmp_path / "elsewhere").write_bytes(kept)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert "leads out of the artifact" in refused(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert "leads out of the artifact" in refused(folder)
    (folder / name).unlink()
    (folder / "inside").write_bytes(kept)
    (folder / name).symlink_to("inside")
    Artifact.load(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refused(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "no plain file" in refused(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert "no plain file" in refused(folder)


@pytest.mark.parametrize("name", ["../manifest.json", "/etc/passwd", "weights.bin"])
def test_the_manifest_cannot_name_other_files(folder, name):
    rewrite(folder, lambda m: m["files"].update({name: m["files"]["golden.json"]}))
    assert "$.files" in refused(folder)


def test_a_sparse_file_of_terabytes_is_not_read(folder):
    for name in ("weights.safetensors", "golden.json", "manifest.json"):
        kept = (folder / name).read_bytes()
        with (folder / name).open("wb") as file:
            file.truncate(2**40)
        said = refused(folder)
        assert ("too large" if name == "manifest.json" else "too long") in said
        (folder / name).write_bytes(kept)


def test_a_file_longer_than_stated_is_not_read_whole(folder):
    with (folder / "weights.safetensors").open("ab") as file:
        file.truncate(2**32)
    assert "too long" in refused(folder)
