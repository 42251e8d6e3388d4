"""A user's own folder: layouts, splits, the scan and its cache, and mistakes that name files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.config import data, model
from dltrain.config.messages import Mistake
from dltrain.data import decode_for, describe, scan
from dltrain.data.decode import decode
from dltrain.data.fetch import cache_folder
from dltrain.data.files import FileReader
from dltrain.data.imageset import ImageSet, open_set
from dltrain.data.sizes import fit
from tests.data.conftest import config, picture, quiet

MakeFolder = Callable[..., Path]


def opened(root: Path, **keys: object) -> ImageSet:
    settings = data.Folder(**{"root": str(root), "size": "16", **keys})  # type: ignore[arg-type]
    return open_set(config(settings), quiet)


def paths(images: ImageSet, split: str) -> list[str]:
    assert isinstance(images.read, FileReader)
    return [images.read.files[number] for number in images.splits[split]]


def refused(root: Path, **keys: object) -> str:
    with pytest.raises(Mistake) as caught:
        opened(root, **keys)
    return str(caught.value)


def test_class_folders_are_split_by_seed_and_class(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 20, "dog": 40, "owl": 10})
    images = opened(root)
    assert images.spec.class_names == ("cat", "dog", "owl")
    assert images.spec.counts == {"train": 49, "val": 7, "test": 14}
    for split, expected in {"train": [14, 28, 7], "val": [2, 4, 1], "test": [4, 8, 2]}.items():
        assert np.bincount(images.targets[images.splits[split]]).tolist() == expected
        for number in images.splits[split]:
            label = images.spec.class_names[images.targets[number]]
            assert images.read.files[number].startswith(f"{label}/")  # type: ignore[attr-defined]
    everything = np.concatenate(list(images.splits.values()))
    assert sorted(everything.tolist()) == list(range(70))
    assert images.spec.notes[0] == "val and test cut from the images by seed and class"
    assert opened(root).splits["val"].tolist() == images.splits["val"].tolist()
    other = open_set(config(data.Folder(root=str(root), size="16"), seed=1), quiet)
    assert other.splits["val"].tolist() != images.splits["val"].tolist()


def test_new_images_move_few_others(make_folder: MakeFolder) -> None:
    """The split follows each image's path, so a new image shifts the border of its class, not the whole order."""
    root = make_folder({"a": 40, "b": 40})
    before = {split: set(paths(opened(root), split)) for split in ("train", "val", "test")}
    picture(20, 24, 999).save(root / "a" / "005b.png")
    after = {split: set(paths(opened(root), split)) for split in ("train", "val", "test")}
    moved = sum(len(before[split] - after[split]) for split in before)
    assert moved <= 2


def test_split_folders_are_kept(make_folder: MakeFolder) -> None:
    counts = {f"{split}/{name}": n for split, n in (("train", 6), ("val", 2), ("test", 3)) for name in ("a", "b")}
    images = opened(make_folder(counts))
    assert images.spec.counts == {"train": 12, "val": 4, "test": 6}
    assert all(path.startswith("test/") for path in paths(images, "test"))
    assert not any("cut" in note for note in images.spec.notes)


def test_train_and_test_val_is_cut_from_train(make_folder: MakeFolder) -> None:
    images = opened(make_folder({"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3}))
    assert images.spec.counts == {"train": 18, "val": 2, "test": 6}
    assert "val cut from train by seed and class" in images.spec.notes


def test_train_and_val_there_is_no_test_and_the_screen_says_so(make_folder: MakeFolder) -> None:
    images = opened(make_folder({"train/a": 5, "train/b": 5, "val/a": 3, "val/b": 3}))
    assert images.spec.counts == {"train": 10, "val": 6}
    assert any("no test" in note for note in images.spec.notes)


def test_a_class_may_be_called_train(make_folder: MakeFolder) -> None:
    images = opened(make_folder({"bus": 10, "train": 10}))
    assert images.spec.class_names == ("bus", "train")


def test_images_are_decoded_upright_resized_and_grey_ones_repeated(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5, "b": 5}, size=(40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 60, 77).save(root / "a" / "turned.jpg", exif=exif)
    picture(40, 60, 78, mode="L").save(root / "b" / "grey.png")
    images = opened(root)
    assert images.spec.shape == (3, 16, 16)
    assert "1 of 12 images are grey and repeated to RGB" in images.spec.notes
    assert "images resized from 40x60 to 60x40 to 16x16 (largest centred part, antialias)" in images.spec.notes
    number = images.read.files.index("a/turned.jpg")  # type: ignore[attr-defined]
    expected = fit(decode(root / "a" / "turned.jpg", 3), (16, 16))
    assert np.array_equal(images.read(number), expected)
    assert np.array_equal(images.read.everything(quiet)[number], expected)
    cfg = config(data.Folder(root=str(root), size="16"))
    assert np.array_equal(decode_for(cfg, images.spec)(str(root / "a" / "turned.jpg")), expected)


def test_one_channel_if_all_are_grey_and_sizes_follow(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5, "b": 5}, mode="L")
    assert describe(config(data.Folder(root=str(root))), quiet).shape == (1, 64, 64)
    assert describe(config(data.Folder(root=str(root)), model.LeNet5()), quiet).shape == (1, 32, 32)
    assert describe(config(data.Folder(root=str(root), size="20x24")), quiet).shape == (1, 20, 24)


def test_mean_and_std_are_measured_on_training_images(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 10, "b": 10})
    images = opened(root)
    train = np.stack([images.read(int(number)) for number in images.splits["train"]]) / 255
    assert images.spec.mean == pytest.approx(train.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert images.spec.std == pytest.approx(train.std((0, 2, 3)).tolist(), abs=6e-5)
    assert "mean and std measured on 14 training images" in images.spec.notes
    assert opened(root).spec == images.spec
    given = opened(root, mean=[0.5], std=[0.25]).spec
    assert (given.mean, given.std) == ((0.5,) * 3, (0.25,) * 3)


def test_a_second_look_reads_no_image_until_one_changes(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"a": 6, "b": 6})
    seen: list[str] = []
    examine = scan.examine
    monkeypatch.setattr(scan, "examine", lambda path, most: seen.append(path.name) or examine(path, most))
    first = opened(root).spec
    assert len(seen) == 12
    assert opened(root).spec == first
    assert len(seen) == 12
    picture(50, 50, 5).save(root / "a" / "002.png")
    assert opened(root).spec != first
    assert seen[12:] == ["002.png"]
    for stored in (cache_folder() / "scans").iterdir():
        stored.write_text('{"version": 1, "files": {"a/000.png": [1, "x"]}, "notes": [')
    opened(root)
    assert len(seen) == 25


def test_a_cache_that_cannot_be_written_changes_nothing(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert opened(make_folder({"a": 5, "b": 5})).spec.counts["train"] == 6


def test_broken_files_are_named(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    whole = root / "a" / "photo.jpg"
    picture(80, 80, 3).save(whole)
    (root / "b" / "cut.jpg").write_bytes(whole.read_bytes()[:-300])
    (root / "b" / "vector.png").write_text("<svg/>")
    (root / "b" / "cut.png").write_bytes((root / "a" / "001.png").read_bytes()[:-30])
    said = refused(root, unreadable=data.Unreadable.stop)
    assert "3 of 16 files" in said
    for name in ("cut.jpg", "vector.png", "cut.png"):
        assert name in said
    assert "photo.jpg" not in said


def test_trailing_bytes_do_not_make_a_jpeg_broken(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    picture(80, 80, 3).save(root / "a" / "photo.jpg")
    with (root / "a" / "photo.jpg").open("ab") as file:
        file.write(b"camera notes")
    assert sum(opened(root).spec.counts.values()) == 13


def test_max_pixels_holds_by_the_header_also_from_the_cache(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    opened(root)
    said = refused(root, max_pixels=400)
    assert "24 x 20 = 480 pixels; data.max_pixels is 400" in said
    assert "12 of 12" in said
    assert "and 7 more" in said


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"a": 5}, "one class only, a"),
        ({"a": 5, "b": 0}, "no images in b"),
        ({"a": 5, "b": 2}, "too few images to split in b (2)"),
        ({"train/a": 5, "train/b": 5, "val/a": 2, "val/c": 2}, "val has classes that train lacks: c"),
        ({"train/a": 5, "train/b": 5, "test": 0}, "test holds no class folders"),
        ({"train/a": 5, "train/b": 5, "val": 3}, "val holds 3 images but no class folders"),
        ({"train/a": 5, "train/b": 5, "val/a": 0, "val/b": 2}, "no images in val/a"),
        ({"train/a": 5, "train/b": 5, "valid/a": 2, "valid/b": 2}, "rename it to val"),
        ({"Train/a": 5, "Train/b": 5, "Test/a": 2}, "rename it to"),
        ({"val/a": 5, "val/b": 5}, "there is no train"),
        ({".": 5}, "holds 5 images but no class folders"),
        ({".": 0}, "holds no class folders"),
        ({"train/a": 1, "train/b": 5, "test/a": 2}, "too few images to split in a (1)"),
    ],
)
def test_folders_that_cannot_be_used_are_explained(make_folder: MakeFolder, counts: dict[str, int], says: str) -> None:
    assert says in refused(make_folder(counts))


def test_no_root_a_missing_root_and_a_file_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(Mistake) as caught:
        open_set(config(data.Folder()), quiet)
    assert caught.value.type_this == "data.root=photos"
    assert "does not exist" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(tmp_path / "file")


def test_links_hidden_files_and_other_files_are_left_out_and_said(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    (root / "a" / "link.png").symlink_to(root / "b" / "000.png")
    (root / "linked_class").symlink_to(root / "a")
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / ".hidden.png").write_bytes(b"")
    (root / "a" / "Thumbs.db").write_bytes(b"")
    os.mkfifo(root / "a" / "pipe.png")
    images = opened(root)
    assert images.spec.class_names == ("a", "b")
    assert sum(images.spec.counts.values()) == 12
    assert "1 link left out: only files themselves are read" in images.spec.notes
    assert any("2 files left out" in note and "a/notes.txt" in note for note in images.spec.notes)


def test_deeper_folders_belong_to_their_class(make_folder: MakeFolder) -> None:
    images = opened(make_folder({"a/2023": 3, "a/2024/may": 3, "b": 6}))
    assert np.bincount(images.targets).tolist() == [6, 6]


def test_odd_names_are_escaped(make_folder: MakeFolder) -> None:
    root = make_folder({"кот [red]": 5, "a\x1b[31m\nb": 5, "=cmd()": 5})
    (root / "кот [red]" / "\x1b[2J.png").write_bytes(b"no image")
    said = refused(root, unreadable=data.Unreadable.stop)
    assert "\x1b" not in said
    assert r"\x1b[2J.png" in said
    (root / "кот [red]" / "\x1b[2J.png").unlink()
    undecodable = os.fsencode(root) + b"/=cmd()/\xff.png"
    shutil.copy(root / "=cmd()" / "000.png", os.fsdecode(undecodable))
    images = opened(root)
    assert images.spec.class_names == ("=cmd()", r"a\x1b[31m\nb", "кот [red]")
    assert images.read(5).shape == (3, 16, 16)
    assert opened(root).spec == images.spec


def test_shares_that_leave_nothing_to_train_are_explained(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 10, "b": 10})
    assert "data.val_share=0.5 and data.test_share=0.5" in refused(root, val_share=0.5, test_share=0.5)
    assert opened(root, test_share=0.0).spec.counts == {"train": 18, "val": 2}


def test_a_long_scan_says_how_far_it_is(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "EVERY", -1.0)
    said: list[str] = []
    root = make_folder({"a": 5, "b": 5})
    images = open_set(config(data.Folder(root=str(root))), said.append)
    assert said[-1] == f"scanning {root}: 10 of 10 images"
    images.read.everything(said.append)
    assert said[-1] == "decoding: 10 of 10 images"
