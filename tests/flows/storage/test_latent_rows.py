"""Tests of flows.storage.latent_rows."""

import gzip
import struct

import numpy as np
import pytest

from flows.errors import ArtifactError
from flows.storage.latent_rows import (
    DIGITS,
    digit_patches,
    latent_arrays,
    load_arrays,
    read_idx,
    shrink,
    split_rows,
    standardise,
    vary,
)


def idx_file(path, images, *, magic=b"\0\0\x08\x03", compress=False):
    content = magic + struct.pack(">3I", *images.shape) + images.tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)
    return path


@pytest.mark.parametrize("compress", [False, True])
def test_an_idx_file_is_read_back(tmp_path, compress):
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    path = idx_file(tmp_path / "images", images, compress=compress)
    np.testing.assert_array_equal(read_idx(path), images)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"GIF89a", "not an IDX file"),
        (b"\0\0\x08\x01" + bytes(8), "not images"),
        (b"\0\0\x08\x03\0\0", "header is cut off"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 1, 2, 2) + b"abc", "expected 4 bytes"),
        (b"\x1f\x8bxx", "not gzip"),
    ],
)
def test_a_file_that_is_no_idx_file_is_refused(tmp_path, content, sentence):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_idx(path)
    assert sentence in str(caught.value)


def test_patches_are_read_back_from_their_file(tmp_path):
    patches = np.random.default_rng(0).normal(size=(3, 9, 9))
    np.savez_compressed(tmp_path / "p.npz", pixel=patches)
    arrays = load_arrays(tmp_path / "p.npz")
    assert list(arrays) == ["pixel"]
    np.testing.assert_array_equal(arrays["pixel"], patches)


def test_a_pickle_in_an_npz_file_is_never_run(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, pixel=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ArtifactError, match="not an npz file"):
        load_arrays(path)


def test_shrinking_averages_cells():
    image = np.zeros((2, 18, 18), dtype=np.uint8)
    image[0, :2, :2] = [[10, 20], [30, 40]]
    image[1, 2, 4] = 100
    small = shrink(image, seed=0)
    # undo the standardisation by the noise's known bounds: means differ by at most 1
    spread = small.std() / (small[0, 8, 8] - small[0, 0, 0])
    assert np.isfinite(spread)
    order = np.argsort(small.ravel())[-2:]
    places = {np.unravel_index(i, small.shape) for i in order}
    assert places == {(0, 0, 0), (1, 1, 2)}


def test_standardised_patches_have_mean_0_and_deviation_1_and_repeat_by_seed():
    images = np.random.default_rng(1).integers(0, 17, (50, 9, 9)).astype(float)
    one, same, other = (standardise(images, step=1.0, seed=s) for s in (1, 1, 2))
    assert abs(one.mean()) < 1e-12
    assert abs(one.std() - 1.0) < 1e-12
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_digits_are_enlarged_to_9_by_9():
    datasets = pytest.importorskip("sklearn.datasets")
    patches = digit_patches(seed=0)
    raw = datasets.load_digits().images
    assert patches.shape == (len(raw), 9, 9)
    # corners of an image stay where they are
    scale = np.polyfit(raw[:, 0, 7], patches[:, 0, 8], 1)
    error = patches[:, 0, 8] - np.polyval(scale, raw[:, 0, 7])
    assert np.abs(error).max() < scale[0]  # the noise of one grey step


def test_a_source_is_read_by_its_kind(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28)).astype(np.uint8)
    path = idx_file(tmp_path / "train-images-idx3-ubyte", images)
    (name,) = found = latent_arrays(str(path), seed=1)
    assert name == "pixel"
    np.testing.assert_array_equal(found[name], shrink(images, seed=1))
    np.savez_compressed(tmp_path / "z.npz", z=images[:, :9, :9] / 1.0)
    (name,) = found = latent_arrays(str(tmp_path / "z.npz"), seed=1)
    assert name == "z"
    np.testing.assert_array_equal(found[name], images[:, :9, :9])
    pytest.importorskip("sklearn")
    assert latent_arrays(DIGITS, seed=0)["pixel"].shape == (1797, 9, 9)


def test_the_last_rows_are_held_out():
    arrays = {"a": np.arange(100), "b": np.arange(200).reshape(100, 2)}
    training, held_out = split_rows(arrays)
    assert training["a"].tolist() == list(range(85))
    assert held_out["a"].tolist() == list(range(85, 100))
    for name, whole in arrays.items():
        joined = np.concatenate([training[name], held_out[name]])
        np.testing.assert_array_equal(joined, whole)
    assert len(split_rows({"a": np.arange(10_000)})[1]["a"]) == 400
    assert [len(part["a"]) for part in split_rows({"a": np.arange(1)})] == [1, 1]


def test_varied_patches_begin_with_their_own_and_differ_a_little_by_seed():
    rows, columns = np.mgrid[0:9, 0:9]
    patches = np.stack([rows, columns]).astype(float)
    found = vary(patches, copies=50, seed=0)
    assert found.shape == (2 + 100, 9, 9)
    assert np.array_equal(found[:2], patches)
    assert np.array_equal(found, vary(patches, copies=50, seed=0))
    assert not np.array_equal(found, vary(patches, copies=50, seed=1))
    # a ramp stays one: its slope is scaled and turned, its middle moved by 0.8 at most
    copies = found[2:].reshape(50, 2, 9, 9)
    slopes = np.diff(copies[:, 0, 3:6, 4], axis=1).mean(1)
    assert slopes.min() > 0.85 * np.cos(0.25) - 1e-9
    assert slopes.max() < 1.15 + 1e-9
    assert 0.3 < np.abs(copies[:, 0, 4, 4] - 4).max() < 0.8
    assert abs(copies[:, 0, 4, 4].mean() - 4) < 5 * 0.8 / 3**0.5 / 50**0.5
