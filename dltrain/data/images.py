"""A folder of images without labels. Needs no torch."""

from pathlib import Path

import numpy as np

from dltrain.config.data import ImagesOnly
from dltrain.config.messages import Mistake
from dltrain.data.columns import by_split
from dltrain.data.files import Listed, open_files, root_of
from dltrain.data.imageset import ImageSet, Say
from dltrain.data.layout import SPLITS, beside, beside_notes
from dltrain.data.scan import Found, find_images, holds_images, subfolders
from dltrain.data.sizes import SizeRule
from dltrain.text import safe_text, some


def open_images(settings: ImagesOnly, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers are positions among all the paths that can be read, sorted. Raises Mistake.

    All images in the folder and below it, however deep; or those in folders train, val and test, if there is train and
    one of the others.
    """
    root = root_of(settings)
    of_split, notes = _find(root)
    rows = sorted(
        (file.split("/"), split, stat) for split, found in of_split.items() for file, stat in found.files.items()
    )
    links = [path for found in of_split.values() for path in found.links]
    others = [path for found in of_split.values() for path in found.others]
    files = ["/".join(parts) for parts, *_ in rows]
    listed = Listed(
        root=root,
        files=files,
        stats={file: stat for file, (_, _, stat) in zip(files, rows, strict=True)},
        found=by_split([split for _, split, _ in rows]),
        targets=np.empty((len(rows), 0), dtype=np.float32),
        left_out=beside(links, others),
        notes=(*notes, *beside_notes(links, others)),
    )
    return open_files(settings, listed, suits, seed, say)


def _find(root: Path) -> tuple[dict[str, Found], tuple[str, ...]]:
    """Images of each split, and notes; all of an unsplit folder is `train`. Raises Mistake if one is empty."""
    folders = subfolders(root)
    splits = [name for name in SPLITS if name in folders]
    if "train" in splits and len(splits) > 1:
        found = {name: find_images(root, name) for name in splits}
        beside = [name for name in folders if name not in splits] + ["the images beside them"] * holds_images(root)
    else:
        found, beside = {"train": find_images(root, "")}, []
    empty = [name for name, of in found.items() if not of.files]
    if empty:
        raise Mistake(
            f"data.root={safe_text(str(root))}: no images in {some(empty) if len(found) > 1 else 'it'}",
            allowed="a folder of images, or with train, val and test folders of them",
        )
    return found, (f"left out, being none of {', '.join(splits)}: {some(beside)}",) if beside else ()
