"""Tests of flows.inference.particle_file."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from flows.errors import InferenceError
from flows.inference.particles import Particles
from flows.model.layout import Variable

from .test_particles import COLUMNS, doubtful, particles_of


def test_loading_gives_back_what_was_saved(tmp_path):
    path = tmp_path / "particles.npz"
    particles = particles_of()
    particles.save(path)
    loaded = Particles.load(path)
    assert loaded.columns == particles.columns
    assert torch.equal(loaded.latents, particles.latents)
    assert torch.equal(loaded.log_weights, particles.log_weights)


def test_doubts_are_saved_where_there_are_any(tmp_path):
    path = tmp_path / "particles.npz"
    particles = doubtful("µ < 0 is missed")
    particles.save(path)
    assert Particles.load(path).doubts == particles.doubts
    particles_of().save(path)
    assert not Particles.load(path).doubts
    assert "doubts" not in np.load(path)


def test_doubts_that_are_no_rows_of_text_are_refused(tmp_path):
    path = tmp_path / "particles.npz"
    particles_of().save(path)
    arrays = dict(np.load(path))
    np.savez(path, **arrays, doubts=np.zeros((1, 3)))
    with pytest.raises(InferenceError, match="doubts are no rows of text"):
        Particles.load(path)


def test_numpy_reads_the_arrays_under_the_names_of_the_document(tmp_path):
    path = tmp_path / "particles.npz"
    particles = particles_of()
    particles.save(path)
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive.files) == {
            "sample0",
            "sample1",
            "log_weights",
            "names",
            "labels",
        }
        np.testing.assert_array_equal(archive["sample1"], particles["w"].numpy())
        assert archive["labels"].tolist() == ["z0", "w"]


def test_equal_particles_give_equal_bytes_and_nothing_is_left_beside(tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    particles_of().save(first)
    particles_of().save(second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "particles.npz"
    particles_of(seed=1).save(path)
    before = path.read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(InferenceError, match="cannot be written: disk full"):
        particles_of(seed=2).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_particles_at_all_are_saved_and_loaded(tmp_path):
    path = tmp_path / "particles.npz"
    empty = torch.empty((0, 3), dtype=torch.float64)
    Particles.from_draws(empty, empty[:, 0], COLUMNS).save(path)
    assert Particles.load(path).num_particles == 0


def test_a_latent_called_log_weights_is_refused(tmp_path):
    particles = Particles.from_draws(
        torch.zeros((2, 1), dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
        (Variable("log_weights", "z", (), 0, 1),),
    )
    with pytest.raises(InferenceError, match="names of arrays"):
        particles.save(tmp_path / "particles.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1]), b"PK\x03\x04"])
def test_what_is_no_archive_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "particles.npz"
    path.write_bytes(content)
    with pytest.raises(InferenceError) as caught:
        Particles.load(path)
    assert str(caught.value).startswith(f"{path}: this is not a whole particles file")
    assert "\n" not in str(caught.value)


def test_missing_files_and_directories_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.npz"):
        with pytest.raises(InferenceError, match="not a whole particles file"):
            Particles.load(path)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = tmp_path / "particles.npz"
    np.savez(path, log_weights=np.array([{}], dtype=object))
    with pytest.raises(InferenceError, match="pickled objects"):
        Particles.load(path)


def test_an_array_that_claims_a_huge_size_is_refused_without_allocating(tmp_path):
    path = tmp_path / "particles.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("log_weights.npy", header.getvalue())
    with pytest.raises(InferenceError, match="size it claims"):
        Particles.load(path)


def test_arrays_of_different_lengths_are_refused(tmp_path):
    path = tmp_path / "particles.npz"
    np.savez(
        path,
        sample0=np.zeros(3),
        log_weights=np.zeros(2),
        names=np.array(["sample0"]),
        labels=np.array(["z0"]),
    )
    with pytest.raises(InferenceError, match="array sample0 does not fit"):
        Particles.load(path)


def test_arrays_in_single_precision_are_refused(tmp_path):
    path = tmp_path / "particles.npz"
    np.savez(
        path,
        sample0=np.zeros(2),
        log_weights=np.zeros(2, dtype=np.float32),
        names=np.array(["sample0"]),
        labels=np.array(["z0"]),
    )
    with pytest.raises(InferenceError, match="array log_weights does not fit"):
        Particles.load(path)


@pytest.mark.parametrize(
    "stride", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["sparse", "every"]
)
@pytest.mark.parametrize("flipped", [1, 255])
def test_damaged_bytes_are_refused_or_do_not_matter(tmp_path, flipped, stride):
    """Bytes that no array needs, such as dates in the zip directory, do not matter."""
    path = tmp_path / "particles.npz"
    original = particles_of(num=5)
    original.save(path)
    content = path.read_bytes()
    num_refused = 0
    places = range(0, len(content), stride)
    for i in places:
        damaged = bytearray(content)
        damaged[i] ^= flipped
        path.write_bytes(damaged)
        try:
            loaded = Particles.load(path)
        except InferenceError:
            num_refused += 1
        else:
            assert torch.equal(loaded.latents, original.latents)
            assert torch.equal(loaded.log_weights, original.log_weights)
            assert loaded.columns == original.columns
    assert num_refused > len(places) / 2


def test_files_cut_short_are_refused(tmp_path):
    path = tmp_path / "particles.npz"
    particles_of(num=5).save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(InferenceError):
            Particles.load(path)
