"""Images of any size through a network with an output for each pixel: a mask, an overlay and the areas of each."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL.Image import Image

from dltrain import atomic
from dltrain.config.spec import DataSpec
from dltrain.data.decode import UnreadableError
from dltrain.data.inputs import Inputs
from dltrain.data.mask_coding import nearest
from dltrain.data.whole import Whole
from dltrain.masking import Answer
from dltrain.modes.predict_files import Progress, decoded_files, file_caption, reason, title
from dltrain.report.mask_predictions import FIRST, MaskPredictions
from dltrain.report.overlays import LONGEST, PAGE, beside, indexed, overlay_sheet, reduced
from dltrain.report.palette import overlaid
from dltrain.report.table import percent
from dltrain.report.terminal import Screen
from dltrain.text import safe_text

AHEAD = 2  # images in memory: one is read while another is answered
ENDING = ".png"
LONGEST_NAME = 255  # bytes that file systems take
COMPRESSION = 1  # of overlays, which are looked at once: a third of the time for a tenth more bytes


def predict_masks(
    inputs: Inputs, read: Callable[[Path], Whole], answer: Answer, spec: DataSpec, place: Path, screen: Screen
) -> tuple[MaskPredictions, Image | None]:
    """What the network says of each file, written below `place` as it goes; and a page of some from all over the list.

    There is no page where no file could be read.
    """
    total, classes = len(inputs.files), len(spec.class_names)
    found = MaskPredictions(spec.class_names, total)
    made = made_names(inputs.files)
    chosen = set(np.linspace(0, total - 1, min(total, PAGE)).astype(int).tolist())
    pairs, captions = list[Image](), list[str]()
    seen = np.zeros(classes, bool)
    progress = Progress(screen, total)
    number = -1  # enumerate would keep an image in memory until it has the next
    for whole in decoded_files(inputs, read, AHEAD):
        number += 1
        name = inputs.files[number]
        if isinstance(whole, UnreadableError):
            found.unreadable.append((name, reason(whole, inputs.root / name)))
            continue

        def tell(share: float, done: int = number) -> None:
            progress(done + share)

        mask = answer(whole.pixels, tell)
        image, small = reduced(whole.pixels, mask, LONGEST)
        over = overlaid(image, small, classes)
        if mask.shape != whole.size:
            mask = nearest(mask, (0, 0, mask.shape[1], mask.shape[0]), whole.size)
        del whole
        drawn = indexed(mask, classes)
        _write(place / "masks" / made[number], drawn)
        _write(place / "overlays" / made[number], over, COMPRESSION)
        found.add(name, made[number], drawn)
        if number in chosen:
            pairs.append(beside(image, over))
            captions.append(_caption(found, len(found.names) - 1))
            seen |= found.pixels[-1] > 0
    screen.clear()
    if not found.names:
        return found, None
    head = title(len(pairs), len(found.names))
    return found, overlay_sheet(pairs, captions, head, spec.class_names, np.flatnonzero(seen).tolist())


def made_names(files: Sequence[str]) -> list[str]:
    """A path of its own for each file, ending in .png: that of the file, but for its ending.

    With the ending where two would have one path, also on disks that do not tell upper from lower case; numbered where
    that is taken too; cut where a file system would not take it.
    """
    short = [_with_png(os.path.splitext(file)[0]) for file in files]  # noqa: PTH122 - no suffix in "..png"
    often = Counter(name.casefold() for name in short)
    taken = {str(folder).casefold() for file in files for folder in PurePosixPath(file).parents}
    made = []
    for file, name in zip(files, short, strict=True):
        wanted = name if often[name.casefold()] == 1 else _with_png(file)
        path, number = wanted, 1
        while path.casefold() in taken:
            number += 1
            path = _with_png(wanted.removesuffix(ENDING), f"-{number}")
        taken.add(path.casefold())
        made.append(path)
    return made


def _with_png(stem: str, behind: str = "") -> str:
    folder, slash, name = stem.rpartition("/")
    room = LONGEST_NAME - len(behind + ENDING)
    kept = os.fsencode(name)
    kept = kept if len(kept) <= room else os.fsencode(kept[:room].decode("utf-8", "ignore"))
    return f"{folder}{slash}{os.fsdecode(kept)}{behind}{ENDING}"


def _write(path: Path, image: Image, compression: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_new(path, lambda file: image.save(file, "PNG", compress_level=compression))


def _caption(found: MaskPredictions, number: int) -> str:
    """The file, and below it its largest classes, whose shares are never cut."""
    said = [f"{safe_text(label)}\t{percent(share)}" for label, _, share in found.largest(number)[:FIRST]]
    return "\n".join([file_caption(found.names[number]), *said])
