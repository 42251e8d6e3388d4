"""Images and masks in folders: layouts, pairs, sizes, orientation, reading, and mistakes that name files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dltrain.config import data, model
from dltrain.config.messages import Mistake
from dltrain.config.spec import Target
from dltrain.data.decode import Header, UnreadableError, decode
from dltrain.data.fetch import cache_folder
from dltrain.data.imageset import ImageSet, LeftOut, open_set
from dltrain.data.mask_pairs import MaskScan, PairReader
from dltrain.data.sizes import fit
from tests.data.conftest import config, picture, quiet
from tests.data.masks import discs, opened, photo, save_pairs
from tests.real_data import MISSING, SHARED

SKIP = data.Unreadable.skip


def refused(root: Path, **keys: object) -> str:
    with pytest.raises(Mistake) as caught:
        opened(root, **keys)
    return str(caught.value)


def members(images: ImageSet) -> dict[str, set[str]]:
    assert images.names is not None
    return {split: {images.names[number] for number in numbers} for split, numbers in images.splits.items()}


def test_one_pair_of_folders_is_split_by_seed(tmp_path: Path) -> None:
    images = opened(save_pairs(tmp_path, count=20))
    spec = images.spec
    assert spec.counts == {"train": 14, "val": 2, "test": 4}
    assert (spec.target, spec.class_names, spec.ignore_index) == (Target.mask, ("0", "1"), 255)
    assert spec.shape == (3, 32, 40)
    assert images.targets.shape == (20, 0)
    assert images.sizes is not None
    assert images.sizes.tolist() == [[32, 40]] * 20
    assert spec.notes[:2] == ("val and test cut from the images by seed", "images of 32x40, as they are")
    assert members(opened(tmp_path)) == members(images)
    other = open_set(config(data.MaskFolder(root=str(tmp_path)), model.UNet(), seed=1), quiet)
    assert members(other) != members(images)


def test_a_new_pair_moves_few_others(tmp_path: Path) -> None:
    before = members(opened(save_pairs(tmp_path, count=30)))
    photo(discs(3), 3).save(tmp_path / "images" / "05b.png")
    Image.fromarray(discs(3)).save(tmp_path / "masks" / "05b.png")
    after = members(opened(tmp_path))
    assert sum(len(before[split] - after[split]) for split in before) <= 2


@pytest.mark.parametrize("turned", [False, True])
def test_folders_of_splits_are_kept(tmp_path: Path, turned: bool) -> None:
    """train/images or images/train."""
    for split, count in {"train": 6, "val": 2, "test": 3}.items():
        save_pairs(tmp_path / "set", count=count, below=split)
        for place in ("images", "masks") if turned else ():
            (tmp_path / "other" / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / split / place).rename(tmp_path / "other" / place / split)
    images = opened(tmp_path / ("other" if turned else "set"))
    assert images.spec.counts == {"train": 6, "val": 2, "test": 3}
    start = "images/test/" if turned else "test/images/"
    assert members(images)["test"] == {f"{start}{number:02d}.png" for number in range(3)}


def test_train_and_test_val_is_cut_from_train(tmp_path: Path) -> None:
    save_pairs(tmp_path, count=10, below="train")
    images = opened(save_pairs(tmp_path, count=3, below="test"))
    assert images.spec.counts == {"train": 9, "val": 1, "test": 3}
    assert "val cut from train by seed" in images.spec.notes


def test_train_and_val_there_is_no_test_and_the_screen_says_so(tmp_path: Path) -> None:
    save_pairs(tmp_path, count=5, below="train")
    images = opened(save_pairs(tmp_path, count=3, below="val"))
    assert images.spec.counts == {"train": 5, "val": 3}
    assert any("no test" in note for note in images.spec.notes)


def test_folds_cut_train_and_val_anew_and_measure_on_what_is_then_trained_on(tmp_path: Path) -> None:
    root = save_pairs(tmp_path, count=20)
    seen = []
    for fold in range(4):
        images = opened(root, folds=4, fold=fold)
        assert images.spec.counts == {"train": 12, "val": 4, "test": 4}
        seen.append(members(images)["val"])
        train = np.stack([images.read(number)[:3] for number in images.splits["train"].tolist()]) / 255
        assert images.spec.mean == pytest.approx(train.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert len(set.union(*seen)) == 16


def test_what_is_read_is_the_image_and_its_classes(tmp_path: Path) -> None:
    images = opened(save_pairs(tmp_path, count=10, classes=3))
    whole = images.read.everything(quiet)
    assert isinstance(whole, list)
    for number in range(10):
        pixels = images.read(number)
        assert (pixels.shape, str(pixels.dtype)) == ((4, 32, 40), "uint8")
        assert np.array_equal(pixels[:3], np.asarray(photo(discs(number, 3), number)).transpose(2, 0, 1))
        assert np.array_equal(pixels[3], discs(number, 3))
        assert np.array_equal(whole[number], pixels)
    assert isinstance(images.read, PairReader)
    assert np.array_equal(images.read.only(np.array([7, 2]))(1), whole[2])
    with pytest.raises(ValueError, match="parts"):
        images.read(0, lambda size: (0, 0, 1, 1))


def test_endings_may_differ_and_deeper_folders_keep_their_paths(tmp_path: Path) -> None:
    for place, suffix in {"images": ".jpg", "masks": ".png"}.items():
        for day in ("monday", "tuesday/late"):
            (tmp_path / place / day).mkdir(parents=True)
            for number in range(5):
                mask = discs(number + len(day))
                made = photo(mask, number) if place == "images" else Image.fromarray(mask)
                made.save(tmp_path / place / day / f"{number}{suffix}")
    images = opened(tmp_path)
    assert images.names is not None
    number = list(images.names).index("images/tuesday/late/3.jpg")
    assert np.array_equal(images.read(number)[3], discs(3 + len("tuesday/late")))


@pytest.mark.parametrize("size", ["16x20", "16", "24x40", "47x61"])
def test_image_and_mask_are_resized_from_the_same_part(tmp_path: Path, size: str) -> None:
    """The image as data=folder resizes it; the mask as Pillow takes the nearest pixel from the same box."""
    save_pairs(tmp_path, count=10, classes=4)
    images = opened(tmp_path, size=size)
    height, width = (int(side) for side in (size if "x" in size else f"{size}x{size}").split("x"))
    assert images.sizes is not None
    assert images.sizes.tolist() == [[height, width]] * 10
    factor = min(32 / height, 40 / width)
    box = ((40 - width * factor) / 2, (32 - height * factor) / 2, (40 + width * factor) / 2, (32 + height * factor) / 2)
    for number in range(10):
        pixels = images.read(number)
        plain = decode(tmp_path / "images" / f"{number:02d}.png", 3)
        assert np.array_equal(pixels[:3], fit(plain, (height, width)))
        theirs = Image.fromarray(discs(number, 4)).resize((width, height), Image.Resampling.NEAREST, box=box)
        assert (
            pixels[3] == np.asarray(theirs)
        ).mean() > 0.99  # a centre on the line between two pixels goes either way
        assert set(np.unique(pixels[3])) <= set(range(4))
    assert any("resized from 32x40" in note and "masks: nearest" in note for note in images.spec.notes)


def test_images_keep_sizes_of_their_own_and_the_window_suits_the_smallest(tmp_path: Path) -> None:
    save_pairs(tmp_path, count=9)
    picture(50, 36, 1).save(tmp_path / "images" / "tall.png")
    Image.fromarray(discs(1, 2, 50, 36)).save(tmp_path / "masks" / "tall.png")
    images = opened(tmp_path)
    assert images.sizes is not None
    assert images.sizes.tolist() == [[32, 40]] * 9 + [[50, 36]]
    train = images.sizes[images.splits["train"]]
    assert images.spec.shape == (3, *train.min(0).tolist())
    assert images.read(9).shape == (4, 50, 36)
    assert "images of 32x40 to 50x36, as they are" in images.spec.notes
    cfg = config(data.MaskFolder(root=str(tmp_path), crop="24x16"))
    cfg.model = None
    assert open_set(cfg, quiet).spec.shape == (3, 24, 16)
    assert opened(tmp_path, size="32").spec.shape == (3, 32, 32)


def test_one_channel_if_all_images_are_grey_and_statistics_are_of_images_alone(tmp_path: Path) -> None:
    save_pairs(tmp_path, count=10)
    for path in (tmp_path / "images").iterdir():
        with Image.open(path) as image:
            grey = image.convert("L")
        grey.save(path)
    images = opened(tmp_path)
    assert images.spec.shape == (1, 32, 40)
    train = np.stack([images.read(number)[0] for number in images.splits["train"].tolist()]) / 255
    assert images.spec.mean == pytest.approx([train.mean()], abs=6e-5)
    assert images.spec.std == pytest.approx([train.std()], abs=6e-5)
    assert opened(tmp_path, mean=[0.5], std=[0.25]).spec.mean == (0.5,)


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
def test_a_photo_that_exif_turns_and_its_mask_stay_together(tmp_path: Path, orientation: int, drawn_on: str) -> None:
    """The mask was drawn on what a viewer shows, or on the pixels as they are stored: its size says which."""
    save_pairs(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = discs(3, 3)
    photo(stored, 3).save(tmp_path / "images" / "turned.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "images" / "turned.jpg") as image:
        as_shown = np.asarray(ImageOps.exif_transpose(image))
    labelled = Image.fromarray(stored)
    labelled.getexif()[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(labelled))
    Image.fromarray(shown if drawn_on == "shown" else stored).save(tmp_path / "masks" / "turned.png")
    images = opened(tmp_path)
    assert images.names is not None
    pixels = images.read(list(images.names).index("images/turned.jpg"))
    assert np.array_equal(pixels[:3], as_shown.transpose(2, 0, 1))
    told = [note for note in images.spec.notes if "turned" in note]
    if drawn_on == "stored" and orientation in (2, 3, 4):  # of one size either way, so that nothing tells
        assert np.array_equal(pixels[3], stored)
    else:
        assert np.array_equal(pixels[3], shown)
    if orientation == 1 or (drawn_on == "shown" and orientation >= 5):
        assert told == []
    elif orientation >= 5:
        assert told == ["1 mask is turned as EXIF turns the image, as its size says: images/turned.jpg"]
    else:
        assert len(told) == 1
        assert "the size does not tell" in told[0]


def test_a_mask_with_an_orientation_of_its_own_is_turned_by_it(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(discs(3), 3).save(tmp_path / "images" / "turned.jpg", exif=exif)
    Image.fromarray(discs(3)).save(tmp_path / "masks" / "turned.png", exif=exif)
    images = opened(tmp_path)
    assert images.names is not None
    assert np.array_equal(images.read(list(images.names).index("images/turned.jpg"))[3], np.rot90(discs(3), -1))
    assert not any("turned" in note for note in images.spec.notes[2:])


# ---- mistakes


@pytest.mark.parametrize(
    ("places", "says"),
    [
        (["images"], "holds no folder masks"),
        (["masks"], "holds no folder images"),
        ([], "holds no folder images"),
        (["images", "labels"], "labels: rename it to masks"),
        (["img", "masks"], "img: rename it to images"),
        (["train/images"], "train holds no folder masks"),
        (["train/images", "train/masks", "val/images"], "val holds no folder masks"),
        (["train/images", "train/masks", "test"], "test stands beside train"),
        (["train/images", "train/masks", "valid/images", "valid/masks"], "rename it to val"),
        (["val/images", "val/masks"], "there is no train"),
        (["images/train", "images/val", "masks/train"], "images has train, val"),
        (["images/train", "masks"], "masks has none of them"),
        (["images/train", "masks/train", "masks/test"], "masks has train, test"),
    ],
)
def test_folders_that_cannot_be_used_are_explained(tmp_path: Path, places: list[str], says: str) -> None:
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        picture(32, 40, 1).save(tmp_path / place / "1.png")
    for path in [path for path in tmp_path.glob("*.png") if path.is_file()]:
        path.unlink()
    said = refused(tmp_path)
    assert says in said
    assert str(tmp_path) in said


def test_empty_folders_no_root_and_a_file_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "no images in" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "absent")
    with pytest.raises(Mistake, match=r"needs data\.root"):
        open_set(config(data.MaskFolder()), quiet)


def test_links_in_place_of_what_is_needed_are_named(tmp_path: Path) -> None:
    root = save_pairs(tmp_path / "set")
    (root / "images" / "03.png").rename(tmp_path / "elsewhere.png")
    (root / "images" / "03.png").symlink_to(tmp_path / "elsewhere.png")
    said = refused(root)
    assert "1 mask has no image: masks/03.png; images/03.png is a link, and only files themselves are read" in said
    (tmp_path / "linked").mkdir()
    for place in ("images", "masks"):
        (tmp_path / "linked" / place).symlink_to(root / place)
    assert "holds no folder images; images is a link, and only folders themselves are read" in refused(
        tmp_path / "linked"
    )
    save_pairs(tmp_path / "split", below="other")
    (tmp_path / "split" / "train").symlink_to(root)
    assert "train is a link" in refused(tmp_path / "split")
    for path in (root / "masks").iterdir():
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert "masks/00.png, masks/01.png" in refused(root)
    assert "are links, and only files themselves are read" in refused(root)


def test_too_few_pairs_are_not_counted_by_class(tmp_path: Path) -> None:
    said = refused(save_pairs(tmp_path, count=1))
    assert "too few images to split in all images (1)" in said
    assert "at least 3 images, and something left for train" in said


def test_an_image_without_mask_and_a_mask_without_image_are_named(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    (tmp_path / "masks" / "03.png").unlink()
    (tmp_path / "masks" / "04.png").rename(tmp_path / "masks" / "04_mask.png")
    said = refused(tmp_path)
    assert "2 images have no mask: images/03.png, images/04.png; 1 mask has no image: masks/04_mask.png" in said
    assert "nearest  masks/04_mask.png: rename it to 04.png" in said


def test_two_images_of_one_name_are_named(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    picture(32, 40, 3).save(tmp_path / "images" / "02.jpg")
    assert "images/02.jpg and images/02.png have one name" in refused(tmp_path)


def test_masks_of_another_size_are_named(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    Image.fromarray(discs(1, 2, 40, 32)).save(tmp_path / "masks" / "05.png")
    Image.fromarray(discs(1, 2, 64, 80)).save(tmp_path / "masks" / "07.png")
    said = refused(tmp_path)
    assert "2 images and their masks differ in size (height x width):" in said
    assert "\n  images/05.png is 32x40, masks/05.png is 40x32\n  images/07.png is 32x40, masks/07.png is 64x80" in said


@pytest.mark.parametrize("place", ["images", "masks"])
def test_a_file_that_cannot_be_read_ends_with_its_name_or_is_left_out_with_its_pair(tmp_path: Path, place: str) -> None:
    save_pairs(tmp_path, count=20)
    before = members(opened(tmp_path))
    path = tmp_path / place / "03.png"
    path.write_bytes(path.read_bytes()[:-40])
    said = refused(tmp_path)
    assert f"1 of 40 files in {tmp_path} cannot be used:\n  {place}/03.png cannot be read" in said
    assert "data.unreadable=skip" in said
    images = opened(tmp_path, unreadable=SKIP)
    assert members(images) == {split: files - {"images/03.png"} for split, files in before.items()}
    assert f"1 pair is left out, of which a file cannot be read: {place}/03.png" in images.spec.notes
    assert [(one.file, one.kind) for one in images.left_out] == [(f"{place}/03.png", "unreadable")]
    assert np.array_equal(images.read(3)[3], discs(4))


def test_a_split_without_a_pair_that_can_be_read_is_a_mistake(tmp_path: Path) -> None:
    save_pairs(tmp_path, count=5, below="train")
    save_pairs(tmp_path, count=1, below="val")
    (tmp_path / "val" / "masks" / "00.png").write_bytes(b"broken")
    assert "no images in val can be read: val/masks/00.png is not an image" in refused(tmp_path, unreadable=SKIP)


def test_links_and_other_files_are_left_out_and_said(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    (tmp_path / "masks" / "notes.txt").write_text("x")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "images" / "00.png")
    (tmp_path / "old").mkdir()
    images = opened(tmp_path)
    assert set(images.left_out) == {LeftOut("images/link.png", "link", ""), LeftOut("masks/notes.txt", "other", "")}
    assert "left out, being none of images, masks: old" in images.spec.notes


# ---- the scan


def test_a_second_look_reads_no_file_until_one_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pairs(tmp_path)
    seen: list[str] = []
    look = MaskScan.examine

    def examine(self: MaskScan, file: str, max_pixels: int) -> Header:
        seen.append(file)
        return look(self, file, max_pixels)

    monkeypatch.setattr(MaskScan, "examine", examine)
    first = opened(tmp_path).spec
    assert sorted(seen) == sorted(f"{place}/{number:02d}.png" for place in ("images", "masks") for number in range(10))
    assert opened(tmp_path).spec == first
    assert len(seen) == 20
    Image.fromarray(discs(9) + np.uint8(1)).save(tmp_path / "masks" / "04.png")
    assert opened(tmp_path).spec.class_names == ("0", "1", "2")
    assert seen[20:] == ["masks/04.png"]


def test_a_refused_set_is_not_scanned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pairs(tmp_path, lambda mask, _: Image.fromarray(255 * mask))
    assert "255" in refused(tmp_path)
    monkeypatch.setattr(MaskScan, "examine", lambda self, file, most: pytest.fail(f"{file} is read again"))
    assert opened(tmp_path, mask_values=[0, 255]).spec.class_names == ("0", "255")


def test_a_damaged_cache_is_no_reason_to_stop(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    first = opened(tmp_path).spec
    (stored,) = (cache_folder() / "scans").iterdir()
    whole = json.loads(stored.read_text())
    for wrong in (0, [1, 2], "x", [[0, -1, 0, -1]], [[0, 5, 6, -1]], [[0, 1280, 0, 1 << 30]], [[0, 3, 0, -1]]):
        for file in list(whole["files"])[1::2]:
            whole["files"][file][7] = wrong
        stored.write_text(json.dumps(whole))
        assert opened(tmp_path).spec == first


def test_a_mask_that_changes_behind_the_scan_is_refused_when_it_is_read(tmp_path: Path) -> None:
    save_pairs(tmp_path)
    images = opened(tmp_path)
    Image.fromarray(discs(2) * np.uint8(9)).save(tmp_path / "masks" / "02.png")
    with pytest.raises(UnreadableError, match=r"02\.png cannot be read: holds a value that it did not hold"):
        images.read(2)
    Image.fromarray(discs(2, 2, 20, 20)).save(tmp_path / "masks" / "02.png")
    with pytest.raises(UnreadableError, match="another size than its image"):
        images.read(2)


# ---- real sets


def test_em_opens_as_its_preset_says() -> None:
    root = SHARED / "em"
    if not root.is_dir():
        pytest.skip(MISSING)
    images = opened(root, class_names=["membrane", "cell"])
    assert images.spec.counts == {"train": 22, "val": 2, "test": 6}
    assert images.spec.shape == (1, 256, 256)
    cells = np.mean([images.read(number)[1].mean() for number in images.splits["test"].tolist()])
    assert cells == pytest.approx(0.80, abs=0.02)  # what calling every pixel a cell scores


def test_camvid_opens_as_its_preset_says() -> None:
    root = SHARED / "camvid" / "val"
    if not root.is_dir():
        pytest.skip(MISSING)
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    images = opened(root, class_names=names, ignore_index=11)
    assert sum(images.spec.counts.values()) == 101
    with Image.open(sorted((root / "masks").iterdir())[0]) as image:
        raw = np.asarray(image)
    assert np.array_equal(images.read(0)[-1], np.where(raw == 11, 255, raw))
