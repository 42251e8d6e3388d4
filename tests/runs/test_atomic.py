"""Files are whole or not there, also when the disk is full or the process is stopped."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from dltrain import atomic
from dltrain.config.messages import Failure


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_write_replaces_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"x": 1})
    atomic.write_json(path, {"x": [1.5, float("nan"), float("inf")], "é": None})
    assert json.loads(path.read_text(encoding="utf-8")) == {"x": [1.5, None, None], "é": None}
    assert names(tmp_path) == {"a.json"}


def test_file_mode_follows_umask(tmp_path):
    old = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_temporary_names_cannot_be_guessed(tmp_path):
    found = {atomic.temporary_name(tmp_path / "a").name for _ in range(100)}
    assert len(found) == 100
    assert all(len(name) >= len(".a..tmp") + 16 for name in found)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_keeps_old_file_and_says_what_is_needed(tmp_path, monkeypatch, number):
    path = tmp_path / "a"
    atomic.write_text(path, "old")

    def full(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failure) as caught:
        atomic.write_text(path, "n" * 1234)
    place, _ = atomic.file_system(tmp_path)
    assert f"file system {place}" in str(caught.value)
    assert "1,234 bytes" in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_other_errors_stay_what_they_are(tmp_path, monkeypatch):
    def broken(handle):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        atomic.write_text(tmp_path / "a", "x")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupted_write_leaves_old_file_alone(tmp_path, stop):
    path = tmp_path / "a"
    atomic.write_text(path, "old")

    def fill(file):
        file.write(b"half")
        raise stop

    with pytest.raises(stop):
        atomic.write(path, fill, needed=4)
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_link_names_the_same_file_and_is_idempotent(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    atomic.link(first, second)
    atomic.link(first, second)  # renaming a link onto another of the same file leaves both names
    assert first.samefile(second)
    assert names(tmp_path) == {"first", "second"}


def test_without_hard_links_a_copy_is_made(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "first").write_text("1")
    atomic.link(tmp_path / "first", tmp_path / "second")
    assert (tmp_path / "second").read_text() == "1"
    assert not (tmp_path / "first").samefile(tmp_path / "second")
    assert names(tmp_path) == {"first", "second"}


def test_leftovers_of_a_killed_writer_are_cleared_and_nothing_else(tmp_path):
    for name in (".a.0123456789abcdef.tmp", ".hidden", "b.tmp", ".lock"):
        (tmp_path / name).write_text("x")
    atomic.clear_temporaries(tmp_path)
    assert names(tmp_path) == {".hidden", "b.tmp", ".lock"}


def test_really_full_disk(small_disk):
    path = small_disk / "a"
    atomic.write_text(path, "old")
    with pytest.raises(Failure, match=r"\(tmpfs\).*2,000,000 bytes"):
        atomic.write_text(path, "n" * 2_000_000)
    assert path.read_text() == "old"
    assert names(small_disk) == {"a"}
