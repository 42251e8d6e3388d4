"""Checkpoints: last, previous, best. Written whole, checked by their own digest, read without running anything.

A file holds `{"format", "sha256", "state"}`. The digest goes over names, types, shapes and bytes of the tensors and
the canonical JSON of the rest, since `torch.load` takes a flipped byte of a tensor without a word.
"""

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from dltrain import atomic
from dltrain.config.messages import Failure, Mistake
from dltrain.digest import digest, tensors
from dltrain.digest import weights_sha256 as weights_sha256
from dltrain.hostile import refuse_code
from dltrain.run import CHECKPOINTS, shown

FORMAT = 1
PLAIN = (type(None), bool, int, float, str)


class BrokenError(Exception):
    """A checkpoint file that is damaged, or is none of ours."""


def save(folder: Path, state: dict[str, Any], *, best: bool) -> None:
    """Write `state` as the run's `last`; the old one becomes `previous`. With `best` it is the best as well.

    At any moment of this, a kill leaves a `last` or a `previous` that is whole. Raises TypeError for what cannot be
    read back without trust, Failure if the disk is full.
    """
    place = folder / CHECKPOINTS
    place.mkdir(exist_ok=True)
    last = place / "last.pt"
    plain = _plain(state, "state")
    content = {"format": FORMAT, "sha256": digest(plain), "state": plain}
    needed = sum(t.numel() * t.element_size() for _, t in tensors(plain, ())) + 65536
    with atomic.replacing(last, needed) as temporary:
        atomic.write_new(temporary, lambda file: _torch_save(content, file))
        if last.exists():
            atomic.link(last, place / "previous.pt")
    if best:
        atomic.link(last, place / "best.pt")
    atomic.sync_folder(place)


class _Sink:
    """A file for torch.save that remembers why a write failed: torch itself only says that one did."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _torch_save(content: dict[str, Any], file: BinaryIO) -> None:
    sink = _Sink(file)
    try:
        torch.save(content, sink)  # type: ignore[arg-type]
    except RuntimeError:
        if sink.error is not None:
            raise sink.error from None
        raise


def load(
    folder: Path, which: Literal["last", "best"], say: Callable[[str], None], *, repair: bool = False
) -> dict[str, Any] | None:
    """The state that `save` was given, on the CPU; None if nothing was saved yet.

    A `last` that is damaged is replaced by `previous`, a damaged `best` by another file of the same step, and `say`
    is told. `repair` is for who holds the folder's lock and goes on from the state: what a kill between two renames
    left is put right. Raises Failure if none is whole, Mistake if a file holds what dltrain never writes.
    """
    place = folder / CHECKPOINTS
    if not any((place / f"{name}.pt").exists() for name in ("last", "previous", "best")):
        return None
    if which == "best":
        return _load_best(folder, place, say)
    name, state = _load_last(folder, place, say)
    if repair:
        if name != "last":
            # The next save makes `last` the `previous`: a broken one must not take the place of the whole one.
            atomic.link(place / f"{name}.pt", place / "last.pt")
        _repair_best(place, state, say)
        atomic.sync_folder(place)
    return state


def _load_last(folder: Path, place: Path, say: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    troubles: list[str] = []
    for name in ("last", "previous"):
        try:
            state = read(place / f"{name}.pt")
        except BrokenError as error:
            troubles.append(str(error))
            continue
        if troubles:
            say(f"{troubles[0]}: taking {name}.pt, step {state['step']}")
        return name, state
    raise Failure(
        f"no checkpoint of {folder} can be read\n  "
        + "\n  ".join(troubles)
        + f"\n  type     rm -r {shown(place)}; dltrain resume={shown(folder)}"
        + "\n           to train it again from its first step",
        resumes=False,
    )


def _load_best(folder: Path, place: Path, say: Callable[[str], None]) -> dict[str, Any]:
    path = place / "best.pt"
    try:
        return read(path)
    except BrokenError as error:
        trouble = str(error)
    evaluated = path.exists()
    for name in ("last", "previous"):
        try:
            state = read(place / f"{name}.pt")
        except BrokenError:
            continue
        if _best_step(state) == state["step"]:
            say(f"{trouble}: taking {name}.pt, which is the same step")
            return state
        evaluated = evaluated or _best_step(state) is not None
    if not evaluated:
        raise Mistake(f"{folder} has no best checkpoint: it was not evaluated yet", type_this="checkpoint=last")
    raise Failure(f"{trouble}\n  type     checkpoint=last")


def _best_step(state: dict[str, Any]) -> int | None:
    best = state.get("best")
    return best.get("step") if isinstance(best, dict) else None


def _repair_best(place: Path, state: dict[str, Any], say: Callable[[str], None]) -> None:
    """Make `best.pt` the best that `state` speaks of, as far as it is still there."""
    wanted = _best_step(state)
    best = place / "best.pt"
    if wanted is None:
        return
    found = _step(best)
    if found == wanted:
        return
    for name in ("last", "previous"):
        if _step(place / f"{name}.pt") == wanted:
            atomic.link(place / f"{name}.pt", best)
            return
    # A best of a later step comes again, for the run does again what it did before.
    if found is None or found < wanted:
        say(f"{best} does not hold the best weights, those of step {wanted}: they are lost until a better epoch comes")


def _step(path: Path) -> int | None:
    try:
        return int(read(path)["step"])
    except BrokenError:
        return None


def read(path: Path) -> dict[str, Any]:
    """One checkpoint file, verified. Raises BrokenError if it is damaged, Mistake if it would run code when trusted."""
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A flipped bit can make a reader raise anything at all; whatever it is, this file is not to be used.
        refuse_code(path)
        reason = str(error) if isinstance(error, BrokenError) else f"reading it gives {type(error).__name__}"
        raise BrokenError(f"{path} is broken: {reason}") from error
    try:
        return _verified(content)
    except (BrokenError, TypeError) as error:
        raise BrokenError(f"{path} is broken: {error}") from error


def _verified(content: Any) -> dict[str, Any]:
    if type(content) is not dict or content.keys() != {"format", "sha256", "state"} or content["format"] != FORMAT:
        raise BrokenError("it is no checkpoint of dltrain")
    # Before anything is copied: a stride of 0 makes any shape of one number.
    if any(t.numel() * t.element_size() > t.untyped_storage().nbytes() for _, t in tensors(content["state"], ())):
        raise BrokenError("a tensor of it shows more elements than it has")
    state = _plain(content["state"], "state")
    if content["sha256"] != digest(state):
        raise BrokenError("its content does not fit its digest")
    if type(state) is not dict or type(state.get("step")) is not int:
        raise BrokenError("it holds no step")
    return state


def _check_archive(path: Path) -> None:
    """An archive as torch.save writes it: nothing packed, so that it cannot be larger in memory than on disk."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise BrokenError("it is packed")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise BrokenError("it claims to be larger than it is")


def _plain(value: Any, where: str) -> Any:
    """The same nest with tensors detached, on the CPU, none larger than it looks. Raises TypeError for other things."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        return _plain_tensor(value, where)
    if type(value) in (dict, OrderedDict):
        return _plain_dict(value, where)
    if type(value) in (list, tuple):
        return type(value)(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain Python only")


def _plain_tensor(value: Tensor, where: str) -> Tensor:
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        raise TypeError(f"{where} is a {type(value).__name__} of layout {value.layout}: only dense tensors are saved")
    if value.device.type == "meta":
        raise TypeError(f"{where} has no values: it is on the meta device")
    tensor = value.detach().to("cpu").resolve_conj().resolve_neg()
    # A slice would be saved with all that it was cut from.
    return tensor if tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes() else tensor.clone()


def _plain_dict(value: dict[Any, Any], where: str) -> dict[Any, Any]:
    for key in value:
        if type(key) not in (str, int):
            raise TypeError(f"{where} has a key {key!r}: keys are text or whole numbers")
    items = {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    # A module's state carries the version of its format beside its entries, which loading looks at.
    metadata = getattr(value, "_metadata", None)
    if metadata is None:
        return items
    plain = OrderedDict(items)
    plain._metadata = _plain(metadata, f"{where}._metadata")  # type: ignore[attr-defined]
    return plain
