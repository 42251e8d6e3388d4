"""Telling a checkpoint that names code to run from one that is only damaged. Nothing is unpickled for that."""

import pickletools
import zipfile
from pathlib import Path

from dltrain.config.messages import Mistake
from dltrain.text import safe_text

LARGEST = 64 * 1024 * 1024  # of a pickle that is looked through; ours take kilobytes
MOST_PICKLES = 16  # in one file: torch's old format had a few in a row
# What torch.save names for tensors and plain Python. Everything else would be there to be called.
KNOWN = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")}


def refuse_code(path: Path) -> None:
    """Raise Mistake if a file that cannot be read names things to call that no checkpoint of ours names.

    In a damaged archive (its checksums tell) a strange name is only a sign of the damage.
    """
    try:
        pickles = _pickles(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, KeyError):
        return
    names = [name for content in pickles for name in foreign_names(content)]
    if names:
        raise Mistake(
            f"{path} is refused: it names {safe_text(', '.join(names[:3]))}, which a checkpoint has no use for",
            allowed="checkpoints that dltrain wrote; nothing in this one was run",
        )


def _pickles(path: Path) -> list[bytes]:
    """The pickles of an archive whose checksums are right, or a file that is a pickle itself."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return [file.read(LARGEST)]
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")][:MOST_PICKLES]
        # Raises BadZipFile at a wrong checksum.
        return [archive.read(entry) for entry in entries if entry.file_size <= LARGEST]


def foreign_names(content: bytes) -> list[str]:
    """`module.name` of everything in a pickle that would be looked up and is none of torch.save's."""
    found: list[str] = []
    position = 0
    for _ in range(MOST_PICKLES):
        length = _names_of_one(content[position:], found)
        if not length:
            break
        position += length
    return found


def _names_of_one(content: bytes, found: list[str]) -> int:
    """Add the foreign names of the first pickle to `found`; its length, or 0 if it does not end as a pickle does."""
    texts: list[str] = []
    try:
        for opcode, argument, position in pickletools.genops(content):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                _add(module, name, found)
            elif opcode.name == "STACK_GLOBAL":
                # The two texts pushed before, as every pickler writes it; from a memo they may be older ones.
                module, name = texts[-2:] if len(texts) > 1 else ("an", "unknown")
                _add(module, name, found)
            elif opcode.name == "STOP":
                return (position or 0) + 1
            elif isinstance(argument, str):
                texts.append(argument)
    except Exception:  # what is no pickle makes the reader stumble in any way
        return 0
    return 0


def _add(module: str, name: str, found: list[str]) -> None:
    storage = module in ("torch", "torch.storage") and name.endswith("Storage")
    if (module, name) not in KNOWN and not storage:
        found.append(f"{module}.{name}")
