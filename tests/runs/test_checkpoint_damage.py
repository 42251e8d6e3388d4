"""Checkpoints: damage is found, and the file before is used."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from dltrain import checkpoint
from dltrain.checkpoint import load, save
from dltrain.config.messages import Failure, Mistake
from tests.runs.states import equal, files, quiet, state_of, step_of


def damaged(path: Path, how) -> None:
    content = bytearray(path.read_bytes())
    how(content)
    path.unlink()  # not written in place: another name may belong to the same file
    path.write_bytes(content)


def flip(where):
    def change(content: bytearray) -> None:
        content[where(content)] ^= 1

    return change


def cut(length):
    def change(content: bytearray) -> None:
        del content[length(len(content)) :]

    return change


def replace_all(new):
    def change(content: bytearray) -> None:
        content[:] = new

    return change


def tensor_bytes(content: bytearray) -> int:
    """Inside the bytes of the first convolution's weights."""
    values = state_of(20)["task"]["0.weight"].numpy().tobytes()
    return bytes(content).index(values) + 5


def foreign_zip() -> bytes:

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", "hello")
    return buffer.getvalue()


DAMAGE = {
    "empty": cut(lambda n: 0),
    "ten bytes": cut(lambda n: 10),
    "half": cut(lambda n: n // 2),
    "one byte short": cut(lambda n: n - 1),
    "first byte": flip(lambda c: 0),
    "zip header": flip(lambda c: 28),
    "pickle": flip(lambda c: bytes(c).index(b"format") + 1),
    "global name": flip(lambda c: bytes(c).index(b"_rebuild_tensor_v2") + 3),
    "tensor": flip(tensor_bytes),
    "digest": flip(lambda c: bytes(c).index(b"sha256") + 20),
    "number": flip(lambda c: bytes(c).index(struct.pack(">d", 1 / 3)) + 7),
    "central directory": flip(lambda c: bytes(c).rindex(b"PK\x01\x02") + 20),
    "end of central directory": flip(lambda c: bytes(c).rindex(b"PK\x05\x06") + 2),
    "foreign zip": replace_all(foreign_zip()),
    "text": replace_all(b"hello"),
    "zeros": replace_all(bytes(10_000)),
    "appended": lambda content: content.extend(b"x" * 70_000),
}


@pytest.mark.parametrize("how", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_last_is_told_and_previous_used(tmp_path, how):
    save(tmp_path, state_of(10, best=10), best=True)
    save(tmp_path, state_of(20, best=10), best=False)
    damaged(tmp_path / "checkpoints/last.pt", how)
    lines = []
    assert equal(load(tmp_path, "last", lines.append), state_of(10, best=10))
    assert len(lines) == 1
    assert "last.pt is broken" in lines[0]
    assert "previous.pt, step 10" in lines[0]
    # the next save must not let the broken file take the place of the whole one
    load(tmp_path, "last", lines.append, repair=True)
    assert files(tmp_path)["last.pt"] == files(tmp_path)["previous.pt"]
    save(tmp_path, state_of(20, best=10), best=False)
    assert step_of(tmp_path) == 20
    assert checkpoint.read(tmp_path / "checkpoints/previous.pt")["step"] == 10


def test_torch_itself_takes_a_flipped_tensor_byte(tmp_path):
    """The control: without the digest nobody would notice."""
    save(tmp_path, state_of(20), best=False)
    path = tmp_path / "checkpoints/last.pt"
    damaged(path, DAMAGE["tensor"])
    content = torch.load(path, weights_only=True)
    assert not equal(content["state"], state_of(20))
    with pytest.raises(checkpoint.BrokenError, match="digest"):
        checkpoint.read(path)


def test_every_single_bit_of_a_small_file_is_guarded(tmp_path):
    """No flip anywhere gives a state that differs from what was saved: it is refused, or it is only in the padding."""
    state = {"step": 7, "w": torch.arange(3.0)}
    save(tmp_path, state, best=False)
    path = tmp_path / "checkpoints/last.pt"
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        try:
            assert equal(checkpoint.read(path), state)
        except (checkpoint.BrokenError, Mistake):
            refused += 1
    assert refused > 50


def test_none_left_is_a_failure_with_what_to_type(tmp_path):
    save(tmp_path, state_of(10), best=False)
    save(tmp_path, state_of(20), best=False)
    for name in ("last", "previous"):
        damaged(tmp_path / f"checkpoints/{name}.pt", DAMAGE["half"])
    with pytest.raises(Failure, match=r"(?s)last.pt is broken.*previous.pt is broken.*dltrain resume="):
        load(tmp_path, "last", quiet)


def test_damaged_best_is_replaced_by_a_file_of_the_same_step(tmp_path):
    save(tmp_path, state_of(10, best=10), best=True)
    damaged(tmp_path / "checkpoints/best.pt", DAMAGE["tensor"] if 0 else DAMAGE["half"])
    lines = []
    assert step_of(tmp_path, "best", lines.append) == 10
    assert "best.pt is broken" in lines[0]
    save(tmp_path, state_of(20, best=10), best=False)
    assert step_of(tmp_path, "best", lines.append) == 10
    save(tmp_path, state_of(30, best=10), best=False)
    with pytest.raises(Failure, match="checkpoint=last"):
        load(tmp_path, "best", quiet)


def test_no_best_yet_is_a_mistake(tmp_path):
    save(tmp_path, state_of(10), best=False)
    with pytest.raises(Mistake, match="not evaluated yet") as caught:
        load(tmp_path, "best", quiet)
    assert caught.value.type_this == "checkpoint=last"
