"""Files that are no images, or are broken inside: found by one cached scan, named, and left out or refused."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.config import data
from dltrain.config.messages import Mistake
from dltrain.data import describe, open_data, scan
from dltrain.data.decode import Header, UnreadableError, decode, examine
from dltrain.data.imageset import ImageSet, LeftOut, open_set
from tests.data.conftest import config, picture, quiet

MakeFolder = Callable[..., Path]
STOP = data.Unreadable.stop


def opened(root: Path, seed: int = 0, **keys: object) -> ImageSet:
    settings = data.Folder(**{"root": str(root), "size": "16", **keys})  # type: ignore[arg-type]
    return open_set(config(settings, seed=seed), quiet)


def members(images: ImageSet) -> dict[str, set[str]]:
    assert images.names is not None
    return {split: {images.names[number] for number in numbers} for split, numbers in images.splits.items()}


def encoded(kind: str, height: int = 64) -> bytes:
    file = io.BytesIO()
    picture(height, 64, 5).save(file, kind)
    return file.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG")
IEND, EOI = PNG[-12:], b"\xff\xd9"
BROKEN = {
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "cut.png": PNG[: len(PNG) // 2],
    "good_end.png": PNG[: len(PNG) // 2] + IEND,  # an end marker says nothing of what lies before
    "middle_out.png": PNG[: len(PNG) // 3] + PNG[len(PNG) // 2 :],
    "cut.gif": encoded("GIF")[:-200],
    "cut.bmp": encoded("BMP")[:-200],
    "cut.webp": encoded("WEBP")[:-200],
    "empty.jpg": b"",
    "text.png": b"<svg/>",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_left_out_named_and_counted(make_folder: MakeFolder, name: str) -> None:
    root = make_folder({"a": 6, "b": 6})
    (root / "b" / name).write_bytes(BROKEN[name])
    images = opened(root)
    assert sum(images.spec.counts.values()) == 12
    assert f"1 image that cannot be read is left out: b/{name}" in images.spec.notes
    assert [(one.file, one.kind) for one in images.left_out] == [(f"b/{name}", "unreadable")]
    assert images.left_out[0].reason.startswith(("cannot be read: ", "is not an image"))
    assert images.read.everything(quiet).shape == (12, 3, 16, 16)
    with pytest.raises(Mistake, match=f"1 of 13 files.*cannot be used:\n  b/{name} ") as caught:
        opened(root, unreadable=STOP)
    assert caught.value.type_this == "data.unreadable=skip"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_the_scan_refuses_what_reading_would_refuse_and_nothing_else(kind: str) -> None:
    """A JPEG is looked at at an eighth of its size; at whichever byte a file ends, both ways of reading agree."""
    whole = encoded(kind, 40)
    refused = 0
    for end in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole)]:
        try:
            decode(io.BytesIO(whole[:end]), 3)
            good = True
        except UnreadableError:
            good, refused = False, refused + 1
        if good:
            assert examine(io.BytesIO(whole[:end])) == Header(40, 64, False)
        else:
            with pytest.raises(UnreadableError):
                examine(io.BytesIO(whole[:end]))
    assert refused > 50
    assert good


def test_a_file_that_breaks_moves_no_other_image_to_another_split(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 25, "b": 31})
    before = members(opened(root))
    broken = {*sorted(before["val"])[:2], *sorted(before["test"])[:2], *sorted(before["train"])[:6]}
    for file in broken:
        (root / file).write_bytes(b"broken")
    after = members(opened(root))
    assert after == {split: files - broken for split, files in before.items()}


def test_a_second_look_reads_no_broken_file_again_until_it_changes(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"a": 6, "b": 6})
    (root / "a" / "cut.jpg").write_bytes(BROKEN["cut.jpg"])
    seen: list[str] = []
    monkeypatch.setattr(scan, "examine", lambda path, most: seen.append(path.name) or examine(path, most))
    first = opened(root)
    assert len(seen) == 13
    again = opened(root)
    assert len(seen) == 13
    assert (again.spec, again.left_out) == (first.spec, first.left_out)
    (root / "a" / "cut.jpg").write_bytes(JPEG)
    assert sum(opened(root).spec.counts.values()) == 13
    assert seen[13:] == ["cut.jpg"]


def test_what_another_limit_or_another_user_may_read_is_not_kept_as_broken(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"a": 6, "b": 6})
    picture(60, 60, 1).save(root / "a" / "large.png")
    images = opened(root, max_pixels=1000)
    assert images.left_out == (
        LeftOut("a/large.png", "unreadable", "has 60 x 60 = 3,600 pixels; data.max_pixels is 1,000"),
    )
    assert opened(root).left_out == ()

    def refuse(path: Path, most: int) -> Header:
        if path.name == "001.png":
            raise UnreadableError(path.name, "cannot be read: Permission denied", lasting=False)
        return examine(path, most)

    os.utime(root / "a" / "001.png", (1, 1))
    monkeypatch.setattr(scan, "examine", refuse)
    assert [one.file for one in opened(root).left_out] == ["a/001.png"]
    monkeypatch.undo()
    assert opened(root).left_out == ()


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        examine(tmp_path / "absent.png")
    assert caught.value.reason == "cannot be read: No such file or directory"
    assert not caught.value.lasting


def test_an_interrupted_scan_goes_on_where_it_was(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"a": 40, "b": 40})
    seen: list[str] = []

    def stopping(path: Path, most: int) -> Header:
        if len(seen) == 70:
            raise KeyboardInterrupt
        seen.append(str(path))
        return examine(path, most)

    monkeypatch.setattr(scan, "THREADS", 1)
    monkeypatch.setattr(scan, "examine", stopping)
    with pytest.raises(KeyboardInterrupt):
        opened(root)
    seen.clear()
    assert sum(opened(root).spec.counts.values()) == 80
    assert 0 < len(seen) < 70


@pytest.mark.parametrize(
    ("counts", "broken", "says"),
    [
        ({"a": 5, "b": 5}, "b", "no training images of b can be read: b/000.png is not an image"),
        ({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2}, "train/b", "no training images of b can be read"),
        ({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2}, "test/b", "no image of test can be read in b: test/b"),
        ({"train/a": 5, "train/b": 5, "val/a": 2, "test/a": 2}, "val/a", "no images in val can be read: val/a/000.png"),
    ],
)
def test_a_class_or_split_without_any_readable_image_is_a_mistake(
    make_folder: MakeFolder, counts: dict[str, int], broken: str, says: str
) -> None:
    root = make_folder(counts)
    for path in (root / broken).iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(Mistake) as caught:
        opened(root)
    assert says in caught.value.what


def test_nothing_but_broken_files_is_a_mistake_that_does_not_advise_to_skip_them(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5, "b": 5})
    for path in root.glob("*/*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(Mistake, match="10 of 10 files") as caught:
        opened(root)
    assert caught.value.type_this == ""


def test_an_image_that_breaks_after_the_scan_ends_the_run(make_folder: MakeFolder) -> None:
    """Also where its size and time stay the same, so that nothing tells before it is read."""
    import torch

    from dltrain.config.messages import Failure

    root = make_folder({"a": 6, "b": 6})
    cfg = config(data.Folder(root=str(root), size="16"))
    spec = describe(cfg, quiet)
    victim = root / "a" / "003.png"
    stat = victim.stat()
    victim.write_bytes(bytes(stat.st_size))
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(Failure, match=r"an image cannot be read: .*003\.png"):
        open_data(cfg, spec, torch.device("cpu"), "resident", 0, quiet)


def test_a_scan_says_how_far_it_is_and_how_long_it_takes(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "EVERY", -1.0)
    root = make_folder({"a": 40, "b": 40})
    said: list[str] = []
    open_set(config(data.Folder(root=str(root))), said.append)
    assert said == [
        f"scanning {root}: 32 of 80 images, 0:00 left",
        f"scanning {root}: 64 of 80 images, 0:00 left",
        f"scanning {root}: 80 of 80 images",
    ]


def test_channels_and_sizes_are_those_of_the_images_that_are_used(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6}, mode="L")
    (root / "a" / "colour.jpg").write_bytes(BROKEN["cut.jpg"])
    images = opened(root)
    assert images.spec.shape == (1, 16, 16)
    assert images.sizes is not None
    assert np.array_equal(images.sizes, np.tile([20, 24], (12, 1)))
    with Image.open(root / "a" / "000.png") as image:
        assert image.size == (24, 20)
