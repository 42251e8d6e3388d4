"""The user's own images: class folders, or train, val and test of class folders. Needs no torch."""

import numpy as np

from dltrain.config.data import Folder
from dltrain.data.files import Listed, open_files, root_of
from dltrain.data.imageset import ImageSet, Say
from dltrain.data.layout import find_layout
from dltrain.data.sizes import SizeRule


def open_folder(settings: Folder, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers are positions among all the paths that can be read, sorted. Raises Mistake, naming files."""
    root = root_of(settings)
    layout = find_layout(root)
    rows = sorted(
        (file.split("/"), split, name, stat)
        for split, classes in layout.files.items()
        for name, found in classes.items()
        for file, stat in found.items()
    )
    files = ["/".join(parts) for parts, *_ in rows]
    names = sorted(layout.files["train"])
    label_of = {name: label for label, name in enumerate(names)}
    of_split = np.array([split for _, split, _, _ in rows])
    listed = Listed(
        root=root,
        files=files,
        stats={file: stat for file, (_, _, _, stat) in zip(files, rows, strict=True)},
        found={split: np.flatnonzero(of_split == split) for split in layout.files},
        targets=np.array([label_of[name] for _, _, name, _ in rows], dtype=np.int64),
        class_names=names,
        left_out=layout.left_out,
        notes=layout.notes,
    )
    return open_files(settings, listed, suits, seed, say)
