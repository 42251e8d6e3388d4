"""Checkpoints made to harm: nothing in them is run."""

import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from dltrain import checkpoint
from dltrain.checkpoint import load, save
from dltrain.config.messages import Failure, Mistake
from tests.runs.states import quiet, state_of

CANARY = "canary"


class Opens:
    """Unpickled with trust, it makes a file: the canary."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def attacks(path: Path, canary: Path) -> dict:
    def whole() -> None:
        torch.save({"format": 1, "sha256": "0" * 64, "state": Opens(canary)}, path)

    def in_tensor_dict() -> None:
        torch.save({"format": 1, "sha256": "0" * 64, "state": {"task": {"w": Opens(canary)}, "step": 1}}, path)

    def legacy() -> None:
        torch.save({"state": Opens(canary)}, path, _use_new_zipfile_serialization=False)

    def plain_pickle() -> None:
        path.write_bytes(pickle.dumps(Opens(canary)))

    def pickle_protocol_4() -> None:
        torch.save({"state": Opens(canary)}, path, pickle_protocol=4)

    def module() -> None:
        torch.save(nn.Linear(2, 2), path)

    def torchscript() -> None:

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(nn.Linear(2, 2)).save(str(path))

    return {
        f.__name__: f for f in (whole, in_tensor_dict, legacy, plain_pickle, pickle_protocol_4, module, torchscript)
    }


def test_the_attack_would_work_on_a_trusting_reader(tmp_path):
    path, canary = tmp_path / "x.pt", tmp_path / CANARY
    attacks(path, canary)["whole"]()
    torch.load(path, weights_only=False)
    assert canary.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", attacks(Path(), Path()))
@pytest.mark.parametrize("which", ["last", "best"])
def test_hostile_checkpoint_runs_nothing(tmp_path, name, which):
    canary = tmp_path / CANARY
    save(tmp_path, state_of(10, best=10), best=True)
    path = tmp_path / f"checkpoints/{which}.pt"
    path.unlink()
    attacks(path, canary)[name]()
    (tmp_path / "checkpoints/previous.pt").unlink(missing_ok=True)
    for other in ("last", "best"):
        if other != which:
            (tmp_path / f"checkpoints/{other}.pt").unlink()
    with pytest.raises((Mistake, Failure)) as caught:
        load(tmp_path, which, quiet)
    if name != "torchscript":
        assert isinstance(caught.value, Mistake)
        assert "is refused: it names" in str(caught.value)
    assert not canary.exists()


def test_hostile_last_is_not_passed_over(tmp_path):
    """Somebody who puts such a file there must not be answered by the file before."""
    save(tmp_path, state_of(10), best=False)
    save(tmp_path, state_of(20), best=False)
    (tmp_path / "checkpoints/last.pt").unlink()
    attacks(tmp_path / "checkpoints/last.pt", tmp_path / CANARY)["whole"]()
    with pytest.raises(Mistake, match=r"names .*open"):
        load(tmp_path, "last", quiet)


def test_packed_archive_is_refused_before_it_is_unpacked(tmp_path):
    save(tmp_path, {"step": 1, "w": torch.zeros(10_000_000)}, best=False)
    path = tmp_path / "checkpoints/last.pt"
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(checkpoint.BrokenError, match="packed"):
        checkpoint.read(path)


def test_tensor_that_shows_more_than_it_has_is_refused(tmp_path):
    state = {"step": 1, "w": torch.zeros(1).expand(10**9, 10**6)}
    torch.save({"format": 1, "sha256": "0" * 64, "state": state}, tmp_path / "x.pt")
    with pytest.raises(checkpoint.BrokenError, match="more elements"):
        checkpoint.read(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [[], {"format": 2}, {"format": 1, "sha256": 3, "state": {}}, {"state": {}}])
def test_foreign_content_is_broken(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(checkpoint.BrokenError):
        checkpoint.read(tmp_path / "x.pt")


def test_there_is_no_way_around_weights_only():
    package = Path(checkpoint.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "weights_only=False" not in text, path
        assert "add_safe_globals" not in text, path
        assert "safe_globals(" not in text, path
        assert text.count("torch.load(") == text.count("weights_only=True)"), path
