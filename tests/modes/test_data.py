"""mode=data: counts, balance, sizes and problems on the screen and in data.json, and one picture."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain import run
from dltrain.cli import main
from dltrain.config.spec import DataSpec, Target
from dltrain.data.problems import ClassCount, Facts, Output
from dltrain.report.datasheet import lines
from tests.data.conftest import make_folder as make_folder
from tests.data.conftest import picture

Capture = pytest.CaptureFixture[str]
MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def told(capsys: Capture, *words: str) -> str:
    assert main(["mode=data", *words]) == 0
    found = capsys.readouterr()
    assert found.err == ""
    return found.out


@pytest.fixture
def odd(make_folder: MakeFolder) -> Path:
    """A folder with a bit of everything that may be wrong, and of known counts."""
    root = make_folder({"train/cat": 24, "train/dog": 12, "train/owl": 3, "val/cat": 2, "val/dog": 2, "test/owl": 2})
    picture(30, 50, 900, "L").save(root / "train" / "cat" / "grey.png")
    shutil.copy(root / "train/cat/000.png", root / "val/cat/copy.png")
    shutil.copy(root / "train/cat/001.png", root / "train/dog/no dog.png")
    shutil.copy(root / "train/dog/002.png", root / "train/dog/twice.png")
    (root / "train/cat/cut.png").write_bytes((root / "train/cat/003.png").read_bytes()[:200])
    (root / "train/dog/\x1b[2J.jpg").write_text("no image")
    (root / "train/dog/notes.txt").write_text("x")
    (root / "val/dog/link.png").symlink_to(root / "train/dog/000.png")
    return root


def test_all_of_a_folder_is_told_and_in_the_json(odd: Path, capsys: Capture, empty_folder: Path) -> None:
    out = told(capsys, "data=folder", f"data.root={odd}", "output=seen", "data.mean=[0.5]", "data.std=[0.5]")
    assert "images       49: 42 train, 5 val, 2 test" in out
    assert "20x24 to 30x50 (height x width), most often 20x24 (48) and 1 others" in out
    assert "3x32x32 by model=lenet5" in out
    assert re.search(r"cat +━{32} +25 +59\.5 %", out)
    assert re.search(r"owl +━{4} +3 +7\.1 %", out)
    for text in (
        "2 files cannot be read, and are left out",
        "train/cat/cut.png cannot be read: ",
        r"train/dog/\x1b[2J.jpg is not an image",
        "val/dog/link.png",
        "train/dog/notes.txt",
        "fewer than 10 training images of 1 class\n               owl (3)",
        "owl in val",
        "1 set of equal images with different classes\n"
        "               train: train/cat/001.png (cat) = train: train/dog/no dog.png (dog)",
        "1 set of equal images in two splits or more\n"
        "               train: train/cat/000.png (cat) = val: val/cat/copy.png (cat)",
        "1 set of equal images in one split\n"
        "               train: train/dog/002.png (dog) = train: train/dog/twice.png (dog)",
    ):
        assert text in out
    assert "\x1b" not in out
    assert out.splitlines()[-1] == "written      seen/batch.png and data.json"
    assert {path.name for path in (empty_folder / "seen").iterdir()} == {"batch.png", "data.json"}
    found = json.loads((empty_folder / "seen" / "data.json").read_text())
    assert found["counts"] == {"train": 42, "val": 5, "test": 2}
    assert {one["name"]: one["train"] for one in found["classes"]} == {"cat": 25, "dog": 14, "owl": 3}
    assert found["sizes"] == {"smallest": [20, 24], "largest": [30, 50], "counts": [[20, 24, 48], [30, 50, 1]]}
    assert [one["file"] for one in found["unreadable"]] == ["train/cat/cut.png", "train/dog/\x1b[2J.jpg"]
    assert (found["links"], found["others"]) == (["val/dog/link.png"], ["train/dog/notes.txt"])
    assert [(one["across_splits"], one["targets_differ"], len(one["images"])) for one in found["equal"]] == [
        (False, True, 2),
        (True, False, 2),
        (False, False, 2),
    ]
    assert found["near_empty"] == ["owl"]
    assert {"class": "cat", "split": "test"} in found["absent"]
    assert run.all_runs() == []


def test_every_command_that_it_suggests_is_one_that_runs(odd: Path, capsys: Capture) -> None:
    out = told(capsys, "data=folder", f"data.root={odd}", "model=mlp", "model.widths=[4]", "trainer.batch_size=20")
    commands = [shlex.split(line[line.index("dltrain ") :])[1:] for line in out.splitlines() if "dltrain data" in line]
    assert len(commands) == 4
    ends = {command[-1] for command in commands}
    assert {"trainer.dry_run=true", "data.sampling=balanced", "task.balanced=true"} < ends
    for command in commands:
        assert main([*command, "trainer.epochs=1", "trainer.threads=1", "log=quiet"]) == 0


def test_a_balanced_set_without_problems_suggests_nothing_to_mend(capsys: Capture) -> None:
    out = told(capsys)
    assert "problems     none found" in out
    assert "sizes        all 28x28" in out
    assert "10 classes in 3,500 training images, 350 each" in out
    assert "balanced" not in out
    folder = re.fullmatch(r"written +(outputs/data/[\d-]+)/batch\.png", out.splitlines()[-1])
    assert folder is not None
    assert [path.name for path in Path(folder[1]).iterdir()] == ["batch.png"]


def test_what_is_chosen_from_a_set_is_what_is_shown(capsys: Capture) -> None:
    out = told(capsys, "data.classes=[3,5]", "data.folds=4", "data.train_per_class=20")
    assert "images       440: 40 train, 200 val, 200 test" in out
    assert "2 classes in 40 training images, 20 each" in out


def test_values_have_their_range_and_how_they_lie_in_it(capsys: Capture) -> None:
    out = told(capsys, "data=digits_pose", "output=seen")
    found = json.loads(Path("seen/data.json").read_text())
    assert [one["name"] for one in found["values"]] == ["rotation", "scale", "shift_x", "shift_y"]
    for one in found["values"]:
        assert sum(one["histogram"]) == 3500
        assert one["smallest"] < one["mean"] < one["largest"]
        assert re.search(rf"{one['name']}.*\n    {one['smallest']:.4g} \|.{{20}}\| {one['largest']:.4g}", out)


def test_images_without_targets_are_looked_at_too(make_folder: MakeFolder, capsys: Capture) -> None:
    root = make_folder({"some": 12, "more": 8})
    out = told(capsys, "data=images", f"data.root={root}", "model=mlp")
    assert "images       20: " in out
    assert "classes" not in out
    assert f"next         dltrain data=images data.root={root} model=dcgan trainer.dry_run=true" in out
    assert out.splitlines()[-1].startswith("written ")


def test_a_set_that_cannot_be_opened_is_a_mistake(capsys: Capture, tmp_path: Path) -> None:
    assert main(["mode=data", "data=folder", f"data.root={tmp_path / 'absent'}"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["mode=data", "data=folder"]) == 2
    assert list(Path.cwd().iterdir()) == []


def test_output_that_holds_files_is_not_written_over(capsys: Capture, empty_folder: Path) -> None:
    (empty_folder / "seen").mkdir()
    (empty_folder / "seen" / "mine.txt").write_text("x")
    assert main(["mode=data", "output=seen"]) == 2
    assert "nothing is written over" in capsys.readouterr().err


def test_where_nothing_may_be_written_all_is_told_and_the_picture_is_missed(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["mode=data"]) == 0
    found = capsys.readouterr()
    assert "10 classes" in found.out
    assert "no picture: outputs/data" in found.err.replace(str(Path.cwd()) + "/", "")
    assert "Read-only file system" in found.err


def test_the_picture_shows_each_image_above_what_is_trained_on(make_folder: MakeFolder, capsys: Capture) -> None:
    """Without augmentation both rows are the images themselves; with cutout the lower row differs."""
    root = make_folder({"a": 10, "b": 10}, size=(32, 32))

    def cells(*words: str) -> list[np.ndarray[Any, Any]]:
        name = f"seen{len(list(Path.cwd().iterdir()))}"
        told(capsys, "data=folder", f"data.root={root}", "data.augment.flip=0", f"output={name}", *words)
        with Image.open(f"{name}/batch.png") as sheet:
            pixels = np.asarray(sheet.convert("RGB")).astype(int)
        white = (pixels == 255).all(2)
        rows = np.flatnonzero(~white.all(1))  # what is not white: images and captions
        blocks = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        return [pixels[block[0] : block[-1] + 1] for block in blocks if len(block) > 60]

    plain, changed = cells(), cells("data.augment.cutout=16")
    assert len(plain) == len(changed) == 2
    assert np.array_equal(plain[0], plain[1])
    assert np.array_equal(plain[0], changed[0])
    assert not np.array_equal(changed[0], changed[1])


# ---- the lines themselves


SPEC = DataSpec("many", (3, 8, 8), Target.classes, (), {"train": 100, "val": 1}, (0.5,) * 3, (0.5,) * 3)


def of_classes(count: int) -> Facts:
    classes = [ClassCount(f"class number {i} of many", {"train": 20 + i, "val": 1}) for i in range(count)]
    counts = {"train": sum(one.train for one in classes), "val": count}
    return Facts(counts, [((8, 8), counts["train"])], (8, 8), (8, 8), classes=classes)


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_lines_fit_the_screen(columns: int) -> None:
    facts = of_classes(1000)
    facts.outputs = [Output("an output with quite a long name " * 2, "mm", -1.5, 2.25e9, 0.1, 1.0, [0, 5, 9, 10] * 5)]
    found = lines(facts, SPEC, (), "by model=mlp", columns, "utf-8")
    assert max(map(len, found)) <= columns
    assert sum("━" in text for text in found) == 16
    assert any("984 classes between" in text for text in found)
    assert any("1,019" in text for text in found)
    assert any(re.search(r" 20 +0\.0 %$", text) for text in found)


def test_lines_without_utf8_hold_no_sign_that_is_not_ascii() -> None:
    facts = of_classes(3)
    facts.outputs = [Output("angle", "", -1.0, 1.0, 0.0, 1.0, [0, 1, 5, 10])]
    drawn = next(text for text in lines(facts, SPEC, (), "by model=mlp", 80, "ascii") if "|" in text)
    assert drawn == "    -1 | .=@| 1"
