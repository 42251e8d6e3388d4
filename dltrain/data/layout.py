"""How a user's folder of images is laid out: classes, or train, val and test of classes. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain.config.messages import Mistake
from dltrain.data.imageset import LeftOut
from dltrain.data.scan import Stat, find_images, holds_images, subfolders
from dltrain.text import safe_text, some

SPLITS = ("train", "val", "test")
OTHER_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


@dataclass
class Layout:
    """`files[split][class]` are paths relative to the root; an unsplit folder has `train` only."""

    files: dict[str, dict[str, dict[str, Stat]]]
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def find_layout(root: Path) -> Layout:
    """Look through the folder. Raises Mistake where it cannot be classes of images."""
    shown = safe_text(str(root))
    folders = subfolders(root)
    of_splits = [name for name in SPLITS if name in folders and not _is_class(root / name)]
    notes: list[str] = []
    if "train" in of_splits:
        left_out = [name for name in folders if name not in of_splits]
        for name in left_out:
            meant = OTHER_NAMES.get(name.lower(), name.lower())
            if name in SPLITS:
                raise _no_classes(root, name)
            if meant in SPLITS and meant not in of_splits:
                raise _mistake(root, f"{shown}/{safe_text(name)} stands beside train", f"rename it to {meant}")
        if left_out:
            notes.append(f"left out, being none of train, val, test: {some(left_out)}")
    else:
        for name in folders:
            meant = OTHER_NAMES.get(name.lower(), name.lower())
            if meant in SPLITS and not _is_class(root / name):
                hint = "add a folder train beside it" if name == meant else f"rename it to {meant}"
                raise _mistake(root, f"{shown}/{safe_text(name)} looks like a split, but there is no train", hint)
        of_splits = []
    links: list[str] = []
    others: list[str] = []
    files: dict[str, dict[str, dict[str, Stat]]] = {}
    for split in of_splits or [""]:
        classes = subfolders(root / split)
        if not classes:
            raise _no_classes(root, split)
        files[split or "train"] = {}
        for name in classes:
            found = find_images(root, f"{split}/{name}" if split else name)
            files[split or "train"][name] = found.files
            links += found.links
            others += found.others
    _check_classes(root, files)
    return Layout(files, (*notes, *beside_notes(links, others)), beside(links, others))


def beside(links: Sequence[str], others: Sequence[str]) -> tuple[LeftOut, ...]:
    """What lies beside the images."""
    return (*(LeftOut(path, "link", "") for path in links), *(LeftOut(path, "other", "") for path in others))


def beside_notes(links: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """What lies beside the images, as lines for the screen."""
    notes = []
    if links:
        notes.append(
            f"{len(links):,} {'link' if len(links) == 1 else 'links'} left out: only files themselves are read"
        )
    if others:
        what = "file" if len(others) == 1 else "files"
        notes.append(f"{len(others):,} {what} left out, by name no images: {some(others)}")
    return tuple(notes)


def _is_class(folder: Path) -> bool:
    """Whether images lie in the folder itself, with no folders beside them: a train is also a vehicle."""
    return holds_images(folder) and not subfolders(folder)


def _check_classes(root: Path, files: dict[str, dict[str, dict[str, Stat]]]) -> None:
    train = files["train"]
    for split, classes in files.items():
        where = f"{split}/" if len(files) > 1 else ""
        empty = [f"{where}{name}" for name, found in classes.items() if not found]
        if empty:
            what = f"no images in {some(empty)} (below {safe_text(str(root))})"
            raise _mistake(root, what, "at least one image in every class folder; remove folders that are no classes")
        unknown = [name for name in classes if name not in train]
        if unknown:
            raise _mistake(
                root, f"{split} has classes that train lacks: {some(unknown)}", f"{split} has train's classes"
            )
    if len(train) < 2:
        what = f"{safe_text(str(root))} has one class only, {some(list(train))}"
        raise _mistake(root, what, "two class folders or more")


def _no_classes(root: Path, split: str) -> Mistake:
    folder = root / split
    images = find_images(root, split).files
    shown = safe_text(str(folder))
    what = f"{shown} holds {len(images):,} images but no class folders" if images else f"{shown} holds no class folders"
    return _mistake(root, what, f"one folder a class with its images: {shown}/cat/1.jpg, {shown}/dog/1.jpg")


def _mistake(root: Path, what: str, allowed: str) -> Mistake:
    return Mistake(f"data.root={safe_text(str(root))}: {what}", allowed=allowed)
