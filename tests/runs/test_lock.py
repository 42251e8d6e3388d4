"""A run folder belongs to one live process; a dead one's lock is taken over."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dltrain import atomic, lock
from dltrain.config.messages import Mistake


def write(folder: Path, **changes) -> None:
    (folder / lock.NAME).write_text(json.dumps(lock._me() | changes))


def is_taken(folder: Path) -> bool:
    try:
        with lock.hold(folder):
            assert json.loads((folder / lock.NAME).read_text()) == lock._me()
    except Mistake:
        return True
    return False


def test_lock_is_there_while_held_and_gone_after(tmp_path):
    assert lock.live_owner(tmp_path) == ""
    with lock.hold(tmp_path):
        assert lock.live_owner(tmp_path) == f"process {os.getpid()}"
    assert list(tmp_path.iterdir()) == []


def test_lock_is_gone_after_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.hold(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_live_owner_is_told_with_its_number(tmp_path):
    with lock.hold(tmp_path), pytest.raises(Mistake, match=f"being written by process {os.getpid()}"):
        lock.hold(tmp_path).__enter__()


def test_killed_owner_is_replaced(tmp_path):
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom dltrain import lock\n"
        f"with lock.hold(Path({str(tmp_path)!r})):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / lock.NAME).exists()
    assert not is_taken(tmp_path)


def test_owner_in_another_process_is_respected_until_it_ends(tmp_path):
    code = (
        "from pathlib import Path\nfrom dltrain import lock\n"
        f"with lock.hold(Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"held\n"
        assert is_taken(tmp_path)
        owner.stdin.write(b"\n")
        owner.stdin.flush()
        assert owner.wait(10) == 0
    assert not is_taken(tmp_path)


def test_reused_process_id_is_not_taken_for_the_owner(tmp_path):
    write(tmp_path, start="1")  # this process id, but a process that began at another time
    assert not is_taken(tmp_path)
    write(tmp_path, pid=1, start=lock.process_start(os.getpid()))
    assert not is_taken(tmp_path)


def test_process_id_alone_would_have_been_mistaken(tmp_path):
    write(tmp_path)
    assert is_taken(tmp_path)  # the control: the same lock with the right start time is respected


def test_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    for _ in range(500):
        if Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    assert lock.process_start(child.pid) is None
    child.wait()
    assert lock.process_start(child.pid) is None


def test_program_name_with_spaces_and_brackets_does_not_confuse(tmp_path):
    program = tmp_path / "a) b (c"
    program.symlink_to(sys.executable)
    with subprocess.Popen([str(program), "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = lock.process_start(child.pid)
        assert start is not None
        assert start.isdigit()
        child.communicate(b"\n")


def test_lock_from_before_a_restart_is_stale(tmp_path):
    write(tmp_path, boot="another")
    assert not is_taken(tmp_path)


@pytest.mark.parametrize("changes", [{"host": "elsewhere", "boot": "b"}, {"host": "container", "processes": "pid:[1]"}])
def test_owner_elsewhere_counts_while_it_touches_its_lock(tmp_path, changes):
    write(tmp_path, **changes)
    assert is_taken(tmp_path)
    old = time.time() - lock.DEAD_AFTER - 5
    os.utime(tmp_path / lock.NAME, (old, old))
    assert not is_taken(tmp_path)


def test_owner_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.01)
    with lock.hold(tmp_path):
        os.utime(tmp_path / lock.NAME, (1, 1))
        for _ in range(500):
            if (tmp_path / lock.NAME).stat().st_mtime > 1:
                break
            time.sleep(0.01)
        assert (tmp_path / lock.NAME).stat().st_mtime > 1
    assert not any(thread.name == "dltrain-lock" for thread in threading.enumerate())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "1"}', b"\xff", b"[" * 4096, b'{"pid": 1e9}'])
def test_lock_that_was_cut_short_or_forged_is_no_owner(tmp_path, content):
    (tmp_path / lock.NAME).write_bytes(content)
    assert not is_taken(tmp_path)


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**30])
def test_impossible_process_ids_are_no_owner(tmp_path, pid):
    write(tmp_path, pid=pid)
    assert not is_taken(tmp_path)


def test_lock_taken_over_by_another_is_left_to_it(tmp_path):
    with lock.hold(tmp_path):
        write(tmp_path, pid=1)
    assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == 1


def test_one_of_many_wins_a_stale_lock(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom dltrain import lock\nfrom dltrain.config.messages import Mistake\n"
        "print('ready', flush=True)\ninput()\n"
        f"try:\n    with lock.hold(Path({str(tmp_path)!r})):\n        print('won', flush=True)\n        input()\n"
        "except Mistake:\n    print('lost', flush=True)\n    input()"
    )
    write(tmp_path, start="1")
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    told = [run.stdout.readline().strip() for run in runs]
    for run in runs:
        run.communicate("\n")
    assert sorted(told) == ["lost", "lost", "lost", "won"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_folder_that_cannot_be_written_is_a_mistake(tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic, "write_new", refuse)
    with pytest.raises(Mistake, match="cannot be written") as caught:
        lock.hold(tmp_path).__enter__()
    assert "mode=eval" in caught.value.type_this
