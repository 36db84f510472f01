"""Tests of flows.storage.folders: whole or not at all, whoever is killed."""

import errno
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from flows.errors import ArtifactError
from flows.storage.folders import (
    check_file_place,
    check_folder_place,
    new_folder,
    own_folder,
    write_file,
    write_folder,
)


def held(folder):
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_folder_takes_the_place_of_the_older_one_as_a_whole(tmp_path):
    place = tmp_path / "f"
    write_folder(place, {"mark": b"1", "more": b"1"}, marker="mark")
    write_folder(place, {"mark": b"2"}, marker="mark")
    assert held(place) == {"mark": b"2"}
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_place_is_as_it_was(tmp_path, error):
    place = tmp_path / "f"
    write_folder(place, {"mark": b"1"}, marker="mark")

    def fail(path):
        with new_folder(path, marker="mark") as folder:
            (folder / "mark").write_bytes(b"2")
            raise error

    for path in (place, tmp_path / "g"):
        with pytest.raises(error):
            fail(path)
    assert held(place) == {"mark": b"1"}
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_folders_that_hold_something_else_are_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "letter").write_text("dear")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mark").write_text("mine")
    (tmp_path / "b" / "letter").write_text("dear")
    (tmp_path / "c").write_text("a file")
    for name in "abc":
        with pytest.raises(ArtifactError, match="something else is in this place"):
            check_folder_place(tmp_path / name, marker="mark", own=("mark", "p*"))
    check_folder_place(tmp_path / "b", marker="mark")
    (tmp_path / "empty").mkdir()
    check_folder_place(tmp_path / "empty", marker="mark")


@pytest.mark.parametrize("place", ["n" * 300, "none/f", "/proc/f", "file/f"])
@pytest.mark.parametrize(
    "check", [check_file_place, lambda path: check_folder_place(path, marker="m")]
)
def test_places_that_cannot_be_written_are_found_before_the_work(
    tmp_path, place, check
):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"cannot be written|does not exist"):
        check(tmp_path / place)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "No space left on device; expected free space"),
        (errno.ENAMETOOLONG, "File name too long; expected a shorter name"),
        (errno.EROFS, "expected a place that you may write to"),
        (errno.ENOTDIR, "expected a place in an existing folder"),
    ],
)
def test_what_is_expected_fits_the_cause(tmp_path, number, expected):
    def fail(path):
        with new_folder(path, marker="m"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(ArtifactError, match=expected):
        fail(tmp_path / "p")


def test_links_and_devices_are_never_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", Path("/dev/null"), tmp_path):
        with pytest.raises(ArtifactError, match="no plain file"):
            write_file(path, b"")


def test_a_link_to_nowhere_is_no_place_of_a_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="something else is in this place"):
        check_folder_place(tmp_path / "link", marker="m")


def write_for_ever(place, start):
    for number in range(start, 10**9):
        content = str(number).encode()
        write_folder(place, dict.fromkeys("abcdefgh", content), marker="a")


def test_a_killed_writer_leaves_one_whole_folder_and_the_next_one_cleans_up(tmp_path):
    place = tmp_path / "f"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    rest = random.Random(0)
    for start in range(0, 8000, 1000):
        writer = context.Process(target=write_for_ever, args=(place, start))
        writer.start()
        while not (place.exists() and int((place / "a").read_bytes()) >= start):
            time.sleep(0.001)
        time.sleep(0.02 * rest.random())
        writer.kill()
        writer.join()
        contents = set(held(place).values())
        assert len(held(place)) == 8
        assert len(contents) == 1
    write_folder(place, {"a": b"end"}, marker="a")
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def stay(path):
    with own_folder(path, "work"):
        (path / "in").touch()
        time.sleep(60)


def test_one_at_a_time_is_in_a_folder_until_it_leaves_or_is_killed(tmp_path):
    place = tmp_path / "f"
    with own_folder(place, "work"):
        (place / "a").touch()
        sentence = f"{place}: another work is going on here; expected one at a time"
        with pytest.raises(ArtifactError, match=sentence), own_folder(place, "work"):
            pass
    process = multiprocessing.get_context("spawn").Process(target=stay, args=(place,))
    process.start()
    deadline = time.monotonic() + 60
    while not (place / "in").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ArtifactError, match="another work"), own_folder(place, "work"):
        pass
    process.kill()
    process.join()
    with own_folder(place, "work"):
        assert (place / "a").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "f"
    with pytest.raises(ArtifactError, match="cannot be written"):
        own_folder(place, "work").__enter__()
