"""mode=data of images with masks: pixels of each class, problems, windows, and a picture of both."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain import run
from dltrain.cli import main
from dltrain.config.segmentation import Segmentation, SegmentationLoss
from dltrain.config.spec import DataSpec, Target
from dltrain.data.mask_facts import MaskClass, MaskFacts
from dltrain.data.problems import Equal, Member
from dltrain.report.mask_sheet import lines, suggestions
from dltrain.report.palette import OVER, palette
from dltrain.report.sheet import EDGE, FAINT
from tests.data.masks import photo, save_pairs

Capture = pytest.CaptureFixture[str]
NAMES = "data.class_names=[ground,disc,dot,never]"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def told(capsys: Capture, *words: str) -> str:
    assert main(["mode=data", *words]) == 0
    found = capsys.readouterr()
    assert found.err == ""
    return found.out


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Splits of known pixels: a dot in one training image, ignored rows, equal images, and what is no image."""
    root = tmp_path / "set"
    for split, count in (("train", 12), ("val", 3), ("test", 2)):
        save_pairs(root, count=count, below=split)
        for number in range(count):  # the images of two splits would be equal
            with Image.open(root / split / "masks" / f"{number:02d}.png") as mask:
                image = photo(np.asarray(mask), 100 * count + number)
            image.save(root / split / "images" / f"{number:02d}.png")

    def change(mask: str, rows: slice, columns: slice, value: int) -> None:
        path = root / mask
        with Image.open(path) as image:
            pixels = np.array(image)
        pixels[rows, columns] = value
        Image.fromarray(pixels).save(path)

    change("train/masks/00.png", slice(0, 1), slice(0, 2), 2)
    change("train/masks/01.png", slice(0, 4), slice(None), 255)
    change("val/masks/02.png", slice(None), slice(None), 255)
    shutil.copy(root / "train/images/03.png", root / "val/images/00.png")
    shutil.copy(root / "train/masks/03.png", root / "val/masks/00.png")
    shutil.copy(root / "train/images/04.png", root / "train/images/05.png")  # their masks differ
    (root / "train/images/notes.txt").write_text("x")
    return root


def by_hand(root: Path, split: str, value: int) -> tuple[int, int]:
    """Pixels of a value in the masks of a split, and how many masks have any."""
    counts = [int((np.asarray(Image.open(path)) == value).sum()) for path in (root / split / "masks").iterdir()]
    return sum(counts), sum(count > 0 for count in counts)


def test_all_of_a_set_is_told_and_in_the_json(odd: Path, capsys: Capture) -> None:
    out = told(capsys, "data=mask_folder", f"data.root={odd}", NAMES, "data.ignore_index=255", "output=seen")
    assert "images       17: 12 train, 3 val, 2 test" in out
    assert "sizes        all 32x40" in out
    assert "trained in   windows of 32x32, which suit model=unet; evaluated whole" in out
    assert "lenet5" not in out
    found = json.loads(Path("seen/data.json").read_text())
    assert found["window"] == [32, 32]
    values = {"ground": 0, "disc": 1, "dot": 2, "never": 3}
    for one in [*found["classes"], {"name": "ignored", **found["ignored"]}]:
        for split in ("train", "val", "test"):
            value = values.get(one["name"], 255)
            assert (one["pixels"][split], one["images"][split]) == by_hand(odd, split, value), (one["name"], split)
    total = 12 * 32 * 40 - 4 * 40
    disc = by_hand(odd, "train", 1)[0]
    assert re.search(rf"\n  disc +━+ +{100 * disc / total:.1f} % .* 12 +2 +2\n", out)
    assert re.search(r"\n  dot +━ +< 0\.1 % +0 % +0 % +1 +0 +0\n", out)
    assert re.search(r"\n  ignored +1\.0 % +33\.3 % +0 % +1 +1 +0\n", out)
    for text in (
        "1 file is by name no image\n               train/images/notes.txt",
        "no pixel of 2 classes\n               dot in val and test\n               never in train and val and test",
        "1 class with under 0.1 % of the training pixels, or in few training images\n"
        "               dot (< 0.1 % of the pixels, in 1 of 12)",
        "1 mask without a pixel that counts\n               val/images/02.png",
        "1 set of equal images with different masks\n"
        "               train: train/images/04.png = train: train/images/05.png",
        "1 set of equal images in two splits or more\n"
        "               train: train/images/03.png = val: val/images/00.png",
    ):
        assert text in out
    assert [(one["across_splits"], one["targets_differ"]) for one in found["equal"]] == [(False, True), (True, False)]
    assert found["near_empty"] == ["dot"]
    assert {"class": "never", "split": "train"} in found["absent"]
    assert found["all_ignored"] == ["val/images/02.png"]
    assert out.splitlines()[-1] == "written      seen/batch.png and data.json"
    assert "task.balanced" not in out  # a class without a pixel cannot be given a weight
    assert run.all_runs() == []


@pytest.mark.parametrize("typed", [[], ["model=mlp", "model.widths=[4]", "data.crop=30"]])
def test_every_command_that_it_suggests_is_one_that_runs(typed: list[str], tmp_path: Path, capsys: Capture) -> None:
    root = save_pairs(tmp_path / "set", count=16)
    out = told(capsys, "data=mask_folder", f"data.root={root}", *typed)
    commands = [shlex.split(line[line.index("dltrain ") :])[1:] for line in out.splitlines() if "dltrain data" in line]
    ends = {command[-1] for command in commands}
    assert {"trainer.dry_run=true", "task.loss=both", "task.balanced=true"} < ends
    assert len(commands) == 4
    quick = ["trainer.epochs=1", "trainer.threads=1", "model.depth=2", "model.base_channels=2", "log=quiet"]
    for command in commands:
        assert "model=unet" in command
        assert main([*command, *quick]) == 0


def test_what_is_chosen_from_a_set_is_what_is_counted(capsys: Capture) -> None:
    words = ["data=digit_scenes", "data.size=32", "data.train_scenes=30", "model=unet", "trainer.overfit_batches=2"]
    out = told(capsys, *words, "trainer.batch_size=5", "output=seen")
    assert "images       20: 10 train, 10 val" in out
    found = json.loads(Path("seen/data.json").read_text())
    assert found["equal"] == []
    for split in ("train", "val"):  # the same ten
        assert sum(one["pixels"][split] for one in found["classes"]) == 10 * 32 * 32
    assert found["ignored"]["pixels"] == {"train": 0, "val": 0}


def test_a_mask_that_is_gone_by_then_is_a_mistake(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dltrain.modes import look_at_data

    root = save_pairs(tmp_path / "set")
    opened = look_at_data.open_set

    def then_removed(*args: Any) -> Any:
        found = opened(*args)
        (root / "masks/03.png").unlink()
        return found

    monkeypatch.setattr(look_at_data, "open_set", then_removed)
    assert main(["mode=data", "data=mask_folder", f"data.root={root}"]) == 2
    assert "03.png" in capsys.readouterr().err


# ---- the picture


def cells(name: str) -> list[np.ndarray[Any, Any]]:
    """Rows of pictures in a sheet, without their captions."""
    with Image.open(f"{name}/batch.png") as page:
        pixels = np.asarray(page.convert("RGB")).astype(int)
    framed = (pixels == FAINT).all(2)[:, EDGE : EDGE + 90].mean(1) > 0.9  # the upper and lower lines of frames
    edges = np.flatnonzero(framed)
    return [pixels[top + 1 : bottom] for top, bottom in zip(edges[::2], edges[1::2], strict=True) if bottom - top > 40]


def test_the_picture_shows_images_under_their_masks_above_their_windows(tmp_path: Path, capsys: Capture) -> None:
    """Windows as large as the images are the images where nothing changes them; a flip mirrors image and mask."""
    root = save_pairs(tmp_path / "set", count=10, classes=3)
    shown = {}
    for name, flip in (("plain", 0), ("mirrored", 1)):
        words = [f"data.root={root}", "model=unet", "model.depth=2", "data.crop=32x40", f"data.augment.flip={flip}"]
        told(capsys, "data=mask_folder", *words, f"output={name}")
        shown[name] = cells(name)
    plain, mirrored = shown["plain"], shown["mirrored"]
    assert len(plain) == len(mirrored) == 2
    assert np.array_equal(plain[0], plain[1])
    assert np.array_equal(plain[0], mirrored[0])
    assert not np.array_equal(mirrored[0], mirrored[1])
    height, width = 32 * 3, 40 * 3
    first, turned = (rows[:height, EDGE + 1 : EDGE + 1 + width] for rows in (plain[0], mirrored[1]))
    assert np.array_equal(first, turned[:, ::-1])

    names = (path.name for path in sorted((root / "images").iterdir()))
    drawn = []
    for name in names:
        with Image.open(root / "images" / name) as image, Image.open(root / "masks" / name) as mask:
            under = (1 - OVER) * np.asarray(image).astype(float) + OVER * palette(3)[np.asarray(mask)]
        drawn.append(under.round().repeat(3, 0).repeat(3, 1))
    assert sum(np.abs(first - one).max() <= 1 for one in drawn) == 1


# ---- the lines themselves


SPEC = DataSpec("cells", (3, 64, 96), Target.mask, (), {"train": 100, "val": 7}, (0.5,) * 3, (0.5,) * 3)


def facts_of(count: int, ignored: int = 0) -> MaskFacts:
    classes = [
        MaskClass(f"class number {k} of many", {"train": 900 + k, "val": 10}, {"train": 90, "val": 7})
        for k in range(count)
    ]
    nothing = MaskClass("ignored", {"train": ignored, "val": 0}, {"train": int(ignored > 0), "val": 0})
    return MaskFacts({"train": 100, "val": 7}, [((64, 96), 107)], (64, 96), (64, 96), classes, nothing, [])


@pytest.mark.parametrize("columns", [40, 50, 60, 80, 100])
@pytest.mark.parametrize("count", [2, 20, 250])
def test_lines_fit_the_screen(columns: int, count: int) -> None:
    facts = facts_of(count, ignored=500)
    facts.equal = [Equal([Member("a file of quite a long name.png", "train", "x")] * 2)]
    found = lines(facts, SPEC, (), " (data.crop)", columns)
    assert max(map(len, found)) <= columns
    rows = [text for text in found if text.startswith("  class number")]
    assert len(rows) == min(count, 20 if count == 20 else 16) if count > 2 else 2
    assert any("ignored" in text for text in found)
    assert "mirrored" not in " ".join(found)
    facts.sizes.append(((80, 90), 1))  # narrower than the window
    assert "mirrored" in " ".join(lines(facts, SPEC, (), " (data.crop)", columns))
    assert any(f"{count - 16:,} classes between" in text for text in found) == (count > 20)
    if columns >= 80:
        assert all("━" in text and text.endswith("90    7") for text in rows)


def test_few_training_images_are_no_reason_to_call_their_classes_rare() -> None:
    facts = facts_of(2)
    facts.counts = {"train": 4, "val": 1}
    facts.classes = [MaskClass("a", {"train": 90, "val": 9}, {"train": 4, "val": 1})]
    facts.classes += [MaskClass("b", {"train": 10, "val": 1}, {"train": 2, "val": 1})]
    assert facts.near_empty == []
    facts.counts = {"train": 40, "val": 1}
    assert [one.name for one in facts.near_empty] == ["a", "b"]


def test_what_an_experiment_has_chosen_is_not_suggested_again() -> None:
    facts = facts_of(2)
    facts.classes[1] = MaskClass("b", {"train": 1, "val": 1}, {"train": 1, "val": 1})
    typed = ["mode=data", "data=em", "model=unet", "experiment=mine"]
    assert suggestions(facts, Segmentation(loss=SegmentationLoss.dice), typed, []) == [
        "dltrain data=em model=unet experiment=mine trainer.dry_run=true",
        "dltrain data=em model=unet experiment=mine",
        "dltrain data=em model=unet experiment=mine task.balanced=true",
    ]
