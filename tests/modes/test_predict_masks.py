"""mode=predict and dltrain.load of a segmentation: masks of images of any size, whatever lies beside them."""

import csv
import json
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dltrain
from dltrain import atomic
from dltrain.cli import main
from dltrain.config.spec import DataSpec, Target
from dltrain.data.decode import UnreadableError
from dltrain.data.inputs import Inputs
from dltrain.data.mask_decode import read_mask
from dltrain.data.whole import Whole, covering
from dltrain.modes.predict_masks import made_names, predict_masks
from dltrain.report.mask_predictions import MaskPredictions, to_screen
from dltrain.report.overlays import indexed, reduced
from dltrain.report.palette import palette
from dltrain.report.terminal import Screen
from tests.data.masks import opened, save_pairs
from tests.modes.disc_files import NAMES, NET, SET, SHORT, SIZES, indexes, seen, write_files, write_set
from tests.runs.states import tree_of

FILES = [*SIZES, "turned.png"]
PREDICT = ["mode=predict", "run=run", "input=files"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a run, files to predict, and what was predicted, said on a screen."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_set()
        write_files(Path("files"))
        assert main([*SET, *NET, *SHORT, "output=run"]) == 0
        assert main([*PREDICT, "output=said"]) == 0
    return place


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, beside the run and the files."""
    for name in ("run", "files", "said", "set"):
        (tmp_path / name).symlink_to(finished / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mask_of(name: str, place: str = "said") -> np.ndarray:
    return indexes(Path(place, "masks", name).with_suffix(".png"))


def read_json(place: str = "said") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(place, "predictions.json").read_text(encoding="utf-8"))
    return found


# ---- what is answered


@pytest.mark.parametrize("name", FILES)
def test_a_mask_is_what_the_network_says_of_the_whole_image(name: str, here: Path) -> None:
    """By Pillow, numpy.pad and the network alone."""
    run = dltrain.load("run")
    pixels = np.asarray(seen(Path("files", name)))
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="reflect").transpose(2, 0, 1)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (run.spec.mean, run.spec.std))
    images = torch.from_numpy((padded / np.float32(255) - mean) / std)[None]
    with torch.inference_mode():
        answer = run.model(images)[0].argmax(0)[:height, :width].numpy()
    found = mask_of(name)
    assert found.shape == (height, width)
    assert len(np.unique(answer)) > 1
    assert (found != answer).mean() < 1e-3  # where two classes are within a rounding of each other


def test_in_tiles_it_is_the_same(here: Path) -> None:
    assert main([*PREDICT, "output=tiles", "task.tile=32"]) == 0
    for name in FILES:
        assert (mask_of(name, "tiles") != mask_of(name)).mean() < 1e-3
    narrow = [name for name in FILES if max(mask_of(name).shape) > 32]
    assert len(narrow) == len(FILES)  # the control: none of them fits into a tile


def test_alone_or_among_others_an_image_gets_the_same_bits(here: Path) -> None:
    for name in ("a/odd.png", "a/b/large.jpg"):
        assert main([*PREDICT[:2], f"input=files/{name}", f"output={Path(name).name}"]) == 0
        made = Path(name).with_suffix(".png")
        for kind in ("masks", "overlays"):
            assert Path(Path(name).name, kind, made.name).read_bytes() == Path("said", kind, made).read_bytes()


def test_python_gives_the_same_mask(here: Path) -> None:
    run = dltrain.load("run")
    assert run.class_names == tuple(NAMES)
    for name in FILES:
        mask = run.predict(f"files/{name}")
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, mask_of(name))
    pixels = np.asarray(Image.open("files/a/odd.png"))
    assert np.array_equal(run.predict(pixels), mask_of("a/odd.png"))
    values = run.task.predict(run.preprocess(pixels)[None]).values
    assert values.shape == (1, 3, 37, 61)
    assert (values[0].argmax(0).numpy() != mask_of("a/odd.png")).mean() < 1e-3


def test_with_a_size_images_are_resized_whole_and_masks_brought_back(here: Path) -> None:
    """data.size=16x20: a quarter of the pixels; the mask's come from where their centres lie."""
    few = ["trainer.steps=2", *SHORT[1:]]
    assert main([*SET[:-1], "data.crop=16x20", *NET, *few, "data.size=16x20", "output=half"]) == 0
    assert main(["mode=predict", "run=half", "input=files", "output=halves"]) == 0
    run = dltrain.load("half")
    for name, size in {"a/plain.png": (16, 20), "a/odd.png": (16, 26), "a/b/large.jpg": (33, 20)}.items():
        image = seen(Path("files", name))
        assert covering((image.height, image.width), (16, 20)) == size
        given = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        mean, std = (np.array(values)[:, None, None] for values in (run.spec.mean, run.spec.std))
        assert run.preprocess(image).numpy() == pytest.approx((given / 255 - mean) / std, abs=1e-5)
        small = run.task.predict(run.preprocess(image)[None]).values[0].argmax(0).numpy()
        found = mask_of(name, "halves")
        assert found.shape == (image.height, image.width)
        rows, columns = (((np.arange(n) + 0.5) * k / n).astype(int) for n, k in zip(found.shape, size, strict=True))
        assert (found != small[np.ix_(rows, columns)]).mean() < 1e-3
        assert np.array_equal(run.predict(image), found)
        with Image.open(Path("halves/overlays", name).with_suffix(".png")) as over:
            assert over.size == size[::-1]  # as the network saw it
    assert read_json("halves")["preprocessing"]["steps"][-1]["do"] == "scale"
    Image.new("RGB", (30_000, 1)).save("line.png")
    with pytest.raises(UnreadableError, match=r"line.png is 30000 x 1: at data.size=16x20 it would have 7,680,000"):
        run.config.data.max_pixels = 1_000_000
        dltrain.data.decode_for(run.config, run.spec)("line.png")


# ---- what is written


def test_areas_are_the_pixels_of_the_masks(here: Path) -> None:
    with Path("said/areas.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["file", "class", "pixels", "share"]
    assert [row[0] for row in rows] == [entry["file"] for entry in read_json()["predictions"] for _ in NAMES]
    entries = {entry["file"]: entry for entry in read_json()["predictions"]}
    assert sorted(entries) == sorted(FILES)
    for at, (name, label, pixels, share) in enumerate(rows):
        mask, k = mask_of(name), at % 3
        assert (label, int(pixels)) == (NAMES[k], (mask == k).sum())
        assert float(share) == (mask == k).sum() / mask.size
    for name, entry in entries.items():
        mask = mask_of(name)
        assert (entry["height"], entry["width"]) == mask.shape
        assert entry["mask"] == f"masks/{Path(name).with_suffix('.png')}"
        assert Path("said", entry["overlay"]).exists()
        counts = [(label["pixels"], label["class"]) for label in entry["classes"]]
        assert counts == sorted(((n, NAMES[k]) for k in range(3) if (n := int((mask == k).sum()))), reverse=True)


def test_the_screen_has_the_largest_classes_and_what_was_left_out(here: Path, capsys: Any) -> None:
    shutil.copytree("files", "more")
    Path("more/bad.png").write_text("no image")
    assert main([*PREDICT[:2], "input=more"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.startswith("a/odd.png"))
    counts = np.bincount(mask_of("a/odd.png").ravel(), minlength=3)
    best = int(counts.argmax())
    assert row[1:5] == ["37x61", NAMES[best], f"{100 * counts[best] / counts.sum():.1f}", "%"]
    assert "unreadable   1 file" in lines
    assert any("bad.png is not an image" in line for line in lines)
    assert "predicted    5 images" in lines
    everywhere = next(line.split() for line in lines if line.startswith("ground"))
    assert everywhere[-1] == "5"
    narrow = to_screen(told([[9, 5, 2], [0, 16, 0]]), 40)
    assert narrow[0].split() == ["file", "size", "class", "share"]
    assert max(map(len, narrow)) <= 40


def told(counts: list[list[int]]) -> MaskPredictions:
    """Masks with so many pixels of each class."""
    found = MaskPredictions(tuple(NAMES), len(counts))
    for number, pixels in enumerate(counts):
        mask = np.repeat(np.arange(3, dtype=np.uint8), pixels).reshape(4, -1)
        found.add(f"a folder with a long name/{number}.png", f"{number}.png", indexed(mask, 3))
    return found


def test_a_written_mask_is_a_mask_to_learn_from(here: Path) -> None:
    """data=mask_folder reads back the classes that were predicted."""
    shutil.copytree("said/masks", "again/masks")
    for name in FILES:
        path = Path("again/images", name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        seen(Path("files", name)).save(path)
    images = opened(Path("again"), class_names=NAMES, val_share=0.2, test_share=0.2)
    paths = sorted((Path(name).with_suffix(".png") for name in FILES), key=lambda path: path.parts)
    assert sum(map(len, images.splits.values())) == len(FILES)
    for number, path in enumerate(paths):
        assert np.array_equal(images.read(number)[-1], mask_of(str(path)))


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 16, 17, 255])
def test_a_palette_png_keeps_every_class(classes: int, tmp_path: Path) -> None:
    mask = (np.arange(40 * 50) % classes).reshape(40, 50).astype(np.uint8)
    indexed(mask, classes).save(tmp_path / "mask.png")
    raw = read_mask(tmp_path / "mask.png", 10_000)
    assert np.array_equal(raw.values, mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), palette(classes)[mask])
        assert "icc_profile" not in image.info


def test_pictures_show_the_classes_colours(here: Path) -> None:
    """An overlay is the mean of image and colours, weighed 45 to 55; the page shows all of them."""
    with Image.open("said/overlays/a/odd.png") as over:
        image = np.asarray(seen(Path("files/a/odd.png"))).astype(float)
        expected = 0.55 * palette(3)[mask_of("a/odd.png")] + 0.45 * image
        assert np.abs(np.asarray(over) - expected).max() <= 0.5 + 1e-9
    with Image.open("said/predictions.png") as page:
        assert min(page.size) > 200
        pixels = np.asarray(page)
    counts = sum(np.bincount(mask_of(name).ravel(), minlength=3) for name in FILES)
    for colour, number in zip(palette(3), counts, strict=True):  # the legend's
        assert (pixels == colour).all(2).any() == (number > 0)


@pytest.mark.parametrize("size", [(10, 7), (64, 64), (65, 31), (100, 3), (3, 100)])
def test_large_overlays_are_means_of_whole_pixels(size: tuple[int, int]) -> None:
    g = np.random.default_rng(0)
    pixels, mask = g.integers(0, 256, (3, *size)).astype(np.uint8), g.integers(0, 5, size).astype(np.uint8)
    image, small = reduced(pixels, mask, 16)
    k = -(-max(size) // 16)
    assert (image.height, image.width) == small.shape
    assert max(small.shape) <= 16
    down, across = min(k, size[0]), min(k, size[1])
    for row in range(small.shape[0]):
        for column in range(small.shape[1]):
            block = np.s_[row * down : (row + 1) * down, column * across : (column + 1) * across]
            expected = pixels[(slice(None), *block)].mean((1, 2))
            assert np.abs(np.asarray(image)[row, column] - expected).max() <= 0.5
            assert small[row, column] == mask[block][down // 2, across // 2]


# ---- names


def test_names_are_kept_and_never_meet() -> None:
    plain = ["a/1.jpg", "a/b/1.tif", "photo", ".hidden", "x.tar.png"]
    assert made_names(plain) == ["a/1.png", "a/b/1.png", "photo.png", ".hidden.png", "x.tar.png"]
    assert made_names(["1.jpg", "1.PNG", "2.png"]) == ["1.jpg.png", "1.PNG.png", "2.png"]
    assert made_names(["1.jpg", "1.jpg.bmp", "1.png"]) == ["1.jpg.png", "1.jpg-2.png", "1.png.png"]
    assert made_names(["A.png", "a.jpg"]) == ["A.png.png", "a.jpg.png"]  # one file on some disks
    assert made_names(["1.jpg", "1.png/2.jpg"]) == ["1-2.png", "1.png/2.png"]  # a folder of that name
    long = made_names(["x" * 255, "ж" * 126 + ".jpg", "\udcff" * 250 + ".jpg"])
    assert all(len(name.encode("utf-8", "surrogateescape")) <= 255 for name in long)
    assert len({name.casefold() for name in long}) == 3


def test_odd_names_are_written_and_told_safely(here: Path, capsys: Any) -> None:
    odd = ["new\nline.png", "esc\x1b[31mred.png", "=cmd().png", "日本.png", "\udcff\udcfe.png"]
    Path("named").mkdir()
    for name in odd:
        shutil.copy("files/narrow.png", f"named/{name}")
    assert main([*PREDICT[:2], "input=named", "output=out"]) == 0
    texts = [capsys.readouterr().out, *(Path("out", name).read_text() for name in ("areas.csv", "predictions.json"))]
    assert all("\x1b" not in text for text in texts)
    assert "'=cmd().png" in texts[1]
    assert len(texts[1].splitlines()) == 1 + 3 * len(odd)
    for name in odd:
        assert np.array_equal(indexes(Path("out/masks", name)), mask_of("narrow.png"))
    coded = [entry for entry in read_json("out")["predictions"] if "mask_percent_encoded" in entry]
    assert [entry["mask_percent_encoded"] for entry in coded] == ["masks/%FF%FE.png"]


# ---- whole or not at all


def test_nothing_readable_is_a_failure_that_leaves_nothing(here: Path, capsys: Any) -> None:
    Path("bad").mkdir()
    Path("bad/1.png").write_text("no image")
    before = set(tree_of(here))
    assert main([*PREDICT[:2], "input=bad", "output=out"]) == 1
    assert "1.png is not an image" in capsys.readouterr().err
    assert set(tree_of(here)) == before


@pytest.mark.parametrize("place", ["new/er", "fill"])
def test_stopped_halfway_it_leaves_nothing(place: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fill").mkdir()
    before = set(tree_of(here))
    real, calls = atomic.write_new, iter([False] * 5 + [True])

    def write_new(*args: Any) -> None:
        if next(calls):
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_new", write_new)
        assert main([*PREDICT, f"output={place}"]) == 130
    assert set(tree_of(here)) == before
    assert main([*PREDICT, f"output={place}"]) == 0  # the control, into a folder that is there too
    made = {path.name for path in Path(place).iterdir()}
    assert made == {"masks", "overlays", "areas.csv", "predictions.json", "predictions.png"}
    assert np.array_equal(mask_of("a/odd.png", place), mask_of("a/odd.png"))


def test_a_name_that_is_taken_meanwhile_takes_back_what_was_moved(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A folder appears in the user's empty folder while images are answered: nothing of ours stays beside it."""
    Path("fill").mkdir()
    real = atomic.write_new

    def write_new(path: Path, *rest: Any) -> None:
        Path("fill/overlays").mkdir(exist_ok=True)
        real(path, *rest)

    monkeypatch.setattr(atomic, "write_new", write_new)
    assert main([*PREDICT, "output=fill"]) == 1
    assert "overlays cannot be made" in capsys.readouterr().err
    assert list(Path("fill").rglob("*")) == [Path("fill/overlays")]


# ---- memory


def test_two_images_are_in_memory_at_most(tmp_path: Path) -> None:
    lock, alive, most = threading.RLock(), 0, 0

    def count(change: int) -> None:
        nonlocal alive, most
        with lock:
            alive += change
            most = max(most, alive)

    def read(path: Path) -> Whole:
        pixels = np.zeros((3, 8, 8), np.uint8)
        count(1)
        weakref.finalize(pixels, count, -1)
        return Whole(pixels, (8, 8))

    def answer(pixels: np.ndarray, tell: Any) -> np.ndarray:
        return np.zeros(pixels.shape[1:], np.uint8)

    spec = DataSpec("x", (3, 8, 8), Target.mask, ("a", "b"), {}, (0.0,) * 3, (1.0,) * 3)
    inputs = Inputs(Path(), [f"{number}.png" for number in range(40)])
    found, page = predict_masks(inputs, read, answer, spec, tmp_path, Screen())
    assert len(found.names) == 40
    assert page is not None
    assert most == 2


@pytest.mark.slow
def test_a_giant_image_takes_two_gigabytes_at_most(here: Path) -> None:
    """8,192 x 8,192 in colour, above what the process has with the network in memory."""
    side = 8192
    Path("large").mkdir()
    small = Image.fromarray(np.random.RandomState(0).randint(0, 256, (side // 32, side // 32, 3)).astype(np.uint8))
    for number in range(2):  # one is read while the other is answered
        small.resize((side, side), Image.Resampling.BILINEAR).save(f"large/{number}.png", compress_level=1)
    code = (
        "import numpy, dltrain, pathlib; from dltrain.cli import main\n"
        "dltrain.load('run').predict(numpy.zeros((64, 64, 3), numpy.uint8))\n"
        "held = int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "pathlib.Path('/proc/self/clear_refs').write_text('5')\n"
        "assert main(['mode=predict', 'run=run', 'input=large', 'output=out']) == 0\n"
        "lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))\n"
        "print(peak - held)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert mask_of("0.png", "out").shape == (side, side)
    assert int(done.stdout.split()[-1]) < 2e9


def test_the_set_has_what_the_tests_need(tmp_path: Path) -> None:
    """The control of the fixtures: three classes in each mask."""
    place = save_pairs(tmp_path / "set", classes=3)
    assert all(len(np.unique(np.asarray(Image.open(path)))) == 3 for path in (place / "masks").iterdir())
