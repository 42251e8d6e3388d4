"""Checkpoints: a kill or a full disk at any moment leaves one that is whole."""

import errno
import os

import pytest
import torch

from dltrain import atomic, checkpoint
from dltrain.checkpoint import load, save
from dltrain.config.messages import Failure
from tests.runs.states import equal, files, quiet, state_of, step_of


class Killed(BaseException):
    pass


def kill_at(monkeypatch, number: int) -> None:
    """Let the process die at the number-th call that changes the file system; nothing after it is done either."""
    count = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count > number:
                raise Killed
            return function(*args, **kwargs)

        return call

    for name in ("replace", "link", "unlink", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("links", [True, False])
def test_kill_between_any_two_renames_leaves_the_old_or_the_new_state(tmp_path, monkeypatch, best, links):
    if not links:

        def refuse(*args, **kwargs):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    found = set()
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        save(folder, state_of(10, best=10), best=True)
        save(folder, state_of(20, best=10), best=False)
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            try:
                save(folder, state_of(30, best=30 if best else 10), best=best)
                done = True
            except Killed:
                done = False
        state = load(folder, "last", quiet, repair=True)
        found.add(state["step"])
        assert equal(state, state_of(30, best=30 if best else 10) if state["step"] == 30 else state_of(20, best=10))
        # best is what the state says it is
        assert step_of(folder, "best") == state["best"]["step"]
        # and going on from there ends in the same files as without the kill
        atomic.clear_temporaries(folder / "checkpoints")
        if state["step"] == 20:
            save(folder, state_of(30, best=30 if best else 10), best=best)
        assert set(files(folder)) == {"last.pt", "previous.pt", "best.pt"}
        assert step_of(folder) == 30
        assert step_of(folder, "best") == (30 if best else 10)
        assert checkpoint.read(folder / "checkpoints/previous.pt")["step"] == 20
        if done:
            break
    assert done
    assert found == {20, 30}


def test_without_repair_a_kill_before_the_best_would_lose_it(tmp_path, monkeypatch):
    """The control of the test above: what `repair` is for."""
    save(tmp_path, state_of(10, best=10), best=True)
    link = atomic.link

    def killed_before_best(existing, path):
        if path.name == "best.pt":
            raise Killed
        link(existing, path)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(atomic, "link", killed_before_best)
        save(tmp_path, state_of(20, best=20), best=True)
    assert load(tmp_path, "last", quiet)["best"]["step"] == 20
    assert step_of(tmp_path, "best") == 10
    load(tmp_path, "last", quiet, repair=True)
    assert step_of(tmp_path, "best") == 20


def test_lost_best_is_told_on_resume(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, state_of(step, best=10), best=step == 10)
    (tmp_path / "checkpoints/best.pt").unlink()
    lines = []
    assert load(tmp_path, "last", lines.append, repair=True)["step"] == 30
    assert "step 10" in lines[0]
    assert "lost" in lines[0]


def test_previous_and_best_are_links_not_copies(tmp_path):
    save(tmp_path, state_of(10, best=10), best=True)
    first = files(tmp_path)
    assert first["last.pt"] == first["best.pt"]
    save(tmp_path, state_of(20, best=10), best=False)
    assert files(tmp_path)["previous.pt"] == first["last.pt"] == files(tmp_path)["best.pt"]
    assert set(files(tmp_path)) == {"last.pt", "previous.pt", "best.pt"}


@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_full_disk_leaves_the_old_checkpoints(tmp_path, monkeypatch, share):
    save(tmp_path, state_of(10, best=10), best=True)
    save(tmp_path, state_of(20, best=10), best=False)
    before = files(tmp_path)
    room = share * (tmp_path / "checkpoints/last.pt").stat().st_size
    real = checkpoint._Sink.write
    total = 0

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            nonlocal total
            total += len(content)
            if total > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content)

        def flush(self):
            self.file.flush()

    def full(self, content):
        self.file = self.file if isinstance(self.file, Full) else Full(self.file)
        return real(self, content)

    monkeypatch.setattr(checkpoint._Sink, "write", full)
    with pytest.raises(Failure, match=r"no space left on the file system .*last\.pt needs [\d,]+ bytes"):
        save(tmp_path, state_of(30, best=30), best=True)
    assert files(tmp_path) == before
    assert step_of(tmp_path) == 20
    assert step_of(tmp_path, "best") == 10


def test_really_full_disk_keeps_what_was_there_and_is_usable_again(small_disk):
    save(small_disk, state_of(10, best=10), best=True)
    save(small_disk, state_of(20, best=10), best=False)
    before = files(small_disk)
    message = rf"file system {small_disk} \(tmpfs\).*needs 2,\d\d\d,\d\d\d bytes, [\d,]+ bytes free"
    with pytest.raises(Failure, match=message):
        save(small_disk, state_of(30) | {"large": torch.ones(500_000)}, best=True)
    assert files(small_disk) == before
    save(small_disk, state_of(30, best=10), best=False)
    assert step_of(small_disk) == 30
    assert step_of(small_disk, "best") == 10
