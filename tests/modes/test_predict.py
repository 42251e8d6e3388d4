"""mode=predict: the same answers as evaluation's, for any files, whatever lies beside them; nothing half-made."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import dltrain
from dltrain import atomic, checkpoint, data
from dltrain.cli import main
from dltrain.config.spec import DataSpec, Target
from dltrain.data.inputs import Inputs
from dltrain.environment import Environment
from dltrain.modes import predict_files
from dltrain.modes.predict_files import AHEAD, CHUNK, decoded_files, network
from dltrain.run import Run, all_runs
from tests.models.family import every_classifier, few_pixels
from tests.modes.digit_files import share_right, write_digits
from tests.runs.states import edit, tree_of

LENET = ["model=lenet5", "precision=bf16", "trainer.ema=0.9", "trainer.steps=60", "trainer.threads=1", "log=quiet"]
POSE = ["model=mlp", "model.widths=[16]", "data=digits_pose", "trainer.steps=20", "trainer.threads=1", "log=quiet"]
PREDICT = ["mode=predict", "run=last"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a run, digits as files, and odd files."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(LENET) == 0
        write_digits(Path("digits"))
        odd(Path("odd"), Path("digits/7/3950.png"))
    return place


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, for the test to spoil; the files are where they were."""
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    for name in ("digits", "odd"):
        (tmp_path / name).symlink_to(finished / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def odd(place: Path, digit: Path) -> None:
    place.mkdir()
    image = Image.open(digit)
    image.save(place / "plain.png")
    turned = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    turned |= {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    for orientation, how in {**turned, 8: Image.Transpose.ROTATE_270}.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        image.transpose(how).save(place / f"exif{orientation}.png", exif=exif)
    image.convert("P").save(place / "palette.png")
    image.convert("RGBA").save(place / "opaque.png")
    Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(place / "sixteen.png")
    image.convert("RGB").save(place / "colour.webp", lossless=True)
    image.save(place / "animated.gif", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    image.convert("CMYK").save(place / "cmyk.tif")
    for name in ODD_NAMES:
        image.save(os.fsdecode(os.fsencode(place) + b"/" + name))
    image.resize((57, 91)).save(place / "other-size.jpg")
    image.convert("RGBA").rotate(45).save(place / "see-through.png")
    Image.new("L", (1, 1), 200).save(place / "one.png")
    content = (place / "plain.png").read_bytes()
    (place / "cut.png").write_bytes(content[: len(content) // 2])
    (place / "empty.png").write_bytes(b"")
    (place / "drawing.png").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (place / "text.png").write_text("hello")
    Image.new("1", (20_000, 20_000)).save(place / "bomb.png")
    (place / "notes.txt").write_text("no image by its name")
    (place / "link.png").symlink_to("plain.png")
    os.mkfifo(place / "pipe.png")


ODD_NAMES = [b"new\nline.png", b"esc\x1b[31mred.png", b"=cmd().png", b"[red]markup.png", b"\xff\xfe.png", b'a,b".png']
ODD_NAMES += ["日本 файл.png".encode(), "narrow\u202fspace.png".encode(), "bidi\u202egnp.png".encode(), b"-1.png"]
LIKE_PLAIN = [f"exif{i}.png" for i in range(2, 9)]
LIKE_PLAIN += ["palette.png", "opaque.png", "sixteen.png", "colour.webp", "animated.gif"]
UNREADABLE = {
    "bomb.png": "has 20000 x 20000 = 400,000,000 pixels; data.max_pixels is 89,478,485",
    "cut.png": "cannot be read: image file is truncated",
    "drawing.png": "is not an image (PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM)",
    "empty.png": "is not an image (PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM)",
    "text.png": "is not an image (PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM)",
}


def made(mode: str = "predict") -> Path:
    """The newest folder that was made in the run."""
    return max((all_runs()[0] / mode).iterdir())


def rows(place: Path) -> list[list[str]]:
    with (place / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def said(place: Path) -> dict[str, str]:
    """What the CSV file says of each file, whole."""
    return {row[0]: ",".join(row[1:]) for row in rows(place)[1:]}


def read_json(place: Path) -> Any:
    return json.loads((place / "predictions.json").read_text(encoding="utf-8"))


# ---- equal to evaluation, and to itself


def test_a_test_split_as_files_gives_evaluations_accuracy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PREDICT, "input=digits"]) == 0
    shown = capsys.readouterr().out
    assert main(["mode=eval", "run=last", "output=found"]) == 0
    evaluated = json.loads(Path("found/results.json").read_text())["metrics"]
    place = made()
    head, *lines = rows(place)
    assert head == ["file", "class", "probability"]
    assert len(lines) == 1000
    right = share_right({file: name for file, name, _ in lines})
    assert right == evaluated["test/accuracy"]
    assert 0.5 < right < 1
    assert [line[0] for line in lines[:2]] == ["0/400.png", "0/401.png"]
    # JSON says the same, with the five best
    found = read_json(place)
    assert [[p["file"], p["class"], repr(p["probability"])] for p in found["predictions"]] == lines
    five = sum(p["file"][0] in [entry["class"] for entry in p["top"]] for p in found["predictions"]) / 1000
    assert five == evaluated["test/top5"]
    assert found["weights_sha256"] == checkpoint.weights_sha256(dltrain.load("last").task.state_dict())
    assert found["class_names"] == [str(digit) for digit in range(10)]
    device = Run(all_runs()[0]).environment()["device"]
    assert (found["checkpoint"], found["step"], found["precision"], found["device"]) == ("best", 60, "bf16", device)
    # the screen: the first files, counts of classes, and the folder in the last line
    assert "0/400.png" in shown
    assert "and 990 more files in predictions.csv" in shown
    assert sum(int(line.split()[1].replace(",", "")) for line in _counts(shown)) == 1000
    assert shown.splitlines()[-1].split()[-1] == str(place)
    sheet = Image.open(place / "predictions.png")
    assert sheet.width > 400
    assert sorted(path.name for path in place.iterdir()) == [f"predictions.{kind}" for kind in ("csv", "json", "png")]


def _counts(shown: str) -> list[str]:
    lines = shown.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["class", "images"])
    return lines[start + 1 : lines.index("", start)]


def test_another_precision_gives_other_numbers(here: Path) -> None:
    """The control: the comparisons here can fail."""
    seen = []
    for i, words in enumerate(([], ["precision=fp32"])):
        assert main([*PREDICT, "input=digits/3", f"output=out{i}", *words]) == 0
        seen.append((Path(f"out{i}/predictions.csv")).read_text())
    assert seen[0] != seen[1]


def test_what_lies_beside_a_file_does_not_change_a_bit_of_its_answer(here: Path) -> None:
    files = [f"digits/{name}.png" for name in ("0/400", "3/1902", "4/2444", "7/3950", "9/4999")]
    assert main([*PREDICT, "input=digits", "output=all"]) == 0
    together = said(Path("all"))
    assert len(set(together.values())) > 900
    mixed = Path("mixed")
    mixed.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, mixed / f"{number}.png")
        (mixed / f"{number}-broken.png").write_text("no image")
        shutil.copy("odd/one.png", mixed / f"{number}x.png")
    assert main([*PREDICT, "input=mixed", "output=few"]) == 0
    few = said(Path("few"))
    for number, file in enumerate(files):
        alone = f"alone{number}"
        assert main([*PREDICT, f"input={file}", f"output={alone}"]) == 0
        expected = together[file.removeprefix("digits/")]
        assert said(Path(alone)) == {Path(file).name: expected}
        assert few[f"{number}.png"] == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@every_classifier
def test_an_image_gets_the_same_bits_in_every_place_of_a_pass(
    words: tuple[str, ...], precision: str, here: Path
) -> None:
    few = ["trainer.overfit_batches=1", "trainer.steps=1", "trainer.batch_size=8", "trainer.threads=1", "log=quiet"]
    assert main([*words, *few_pixels(words), *few, f"precision={precision}", "output=run"]) == 0
    run = dltrain.load("run")
    env = Environment(torch.device("cpu"), precision, 1, torch.channels_last, "resident", 0, run.config.determinism)  # type: ignore[arg-type]
    answers = network(run.task.to(memory_format=torch.channels_last), run.spec, env)
    draw = np.random.RandomState(0)
    images = list(draw.randint(0, 256, (CHUNK, *run.spec.shape)).astype(np.uint8))
    first = answers([images[0]])[0]
    assert not np.array_equal(first, answers([images[1]])[0])
    for place in range(CHUNK):
        others = [*images[1 : place + 1], images[0], *images[place + 1 :]]
        assert np.array_equal(answers(others)[place], first)


# ---- odd files


def test_odd_files_are_read_as_they_are_seen_or_named_with_the_reason(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PREDICT, "input=odd"]) == 0
    shown = capsys.readouterr().out
    found = read_json(made())
    by_name = {entry["file"]: entry for entry in found["predictions"]}
    for name in LIKE_PLAIN:
        assert by_name[name]["top"] == by_name["plain.png"]["top"], name
    assert by_name["see-through.png"]["top"] != by_name["plain.png"]["top"]
    assert {"one.png", "other-size.jpg", "cmyk.tif"} <= by_name.keys()
    assert {entry["file"]: entry["reason"] for entry in found["unreadable"]} == UNREADABLE
    for name, reason in UNREADABLE.items():
        assert f"{name} {reason}" in shown
    assert "skipped      link.png (link), pipe.png (named pipe)" in shown
    assert "no images    by their names: notes.txt" in shown
    assert f"predicted    {len(by_name)} images" in shown


def test_names_of_every_kind_come_whole_and_safe_through_csv_json_and_screen(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.makedirs("named")  # noqa: PTH103
    for name in ODD_NAMES:
        shutil.copy("odd/plain.png", os.fsdecode(b"named/" + name))
    assert main([*PREDICT, "input=named"]) == 0
    out = capsys.readouterr().out
    place = made()
    text = (place / "predictions.csv").read_text(encoding="utf-8")
    document = (place / "predictions.json").read_text(encoding="utf-8")
    for shown in (out, text, document):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert r"esc\x1b[31mred.png" in out
    assert "[red]markup.png" in out
    # JSON: exactly the names on the disk
    names = set()
    for entry in json.loads(document)["predictions"]:
        coded = entry.get("file_percent_encoded")
        raw = entry["file"].encode() if coded is None else bytes.fromhex(coded.replace("%", "")[:4]) + b".png"
        names.add(raw)
    assert names == set(ODD_NAMES)
    # CSV: one line a file, and nothing that a spreadsheet would run
    assert len(text.splitlines()) == len(ODD_NAMES) + 1
    cells = [row[0] for row in rows(place)[1:]]
    assert {"'=cmd().png", "'-1.png", r"new\nline.png", 'a,b".png', "narrow\u202fspace.png"} <= set(cells)
    assert all(not cell.startswith(("=", "+", "-", "@")) for cell in cells)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(here: Path) -> None:
    shutil.copytree("digits/3", "mine")
    Path("mine/1900.png").chmod(0)
    assert main([*PREDICT, "input=mine"]) == 0
    assert read_json(made())["unreadable"] == [{"file": "1900.png", "reason": "cannot be read: Permission denied"}]


def test_a_file_that_fails_to_open_is_named_by_the_systems_words(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Image.open

    def refuse(file: Any, *rest: Any, **more: Any) -> Any:
        if str(file).endswith("1902.png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file, *rest, **more)

    monkeypatch.setattr(Image, "open", refuse)
    assert main([*PREDICT, "input=digits/3"]) == 0
    assert read_json(made())["unreadable"] == [{"file": "1902.png", "reason": "cannot be read: Permission denied"}]


def test_largest_image_of_the_runs_own_setting_is_respected(here: Path) -> None:
    shutil.copytree(
        "digits", "photos", ignore=lambda _, names: [n for n in names if n.endswith(".png") and n[2] != "0"]
    )
    words = ["data=folder", "data.root=photos", "data.size=8", "model=mlp", "model.widths=[4]", "trainer.steps=2"]
    words += ["trainer.batch_size=8", "trainer.threads=1", "log=quiet", "data.max_pixels=800", "output=run"]
    assert main(words) == 0
    shutil.rmtree("photos")  # a run needs its images no more
    Path("some").mkdir()
    Image.new("L", (28, 28)).save("some/small.png")
    Image.new("L", (29, 28)).save("some/large.png")
    assert main(["mode=predict", "run=run", "input=some", "output=some/1"]) == 0
    assert [entry["file"] for entry in read_json(Path("some/1"))["unreadable"]] == ["large.png"]
    assert main(["mode=predict", "run=run", "input=some/*.png", "output=some/2", "data.max_pixels=900"]) == 0
    assert read_json(Path("some/2"))["unreadable"] == []


# ---- one file, values


def test_a_single_file_shows_its_five_best_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PREDICT, "input=digits/7/3950.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["class", "probability"])
    (entry,) = read_json(made())["predictions"]
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == [best["class"] for best in entry["top"]]
    assert sum(best["probability"] for best in entry["top"]) <= 1 + 1e-6
    # Python says the same, to bf16
    by_name = dltrain.load("last").predict("digits/7/3950.png")
    assert by_name[entry["class"]] == pytest.approx(entry["probability"], abs=0.02)
    assert sum(by_name.values()) == pytest.approx(1, abs=1e-6)


def test_a_regression_gives_values_with_their_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*POSE, "device=cpu", "output=pose"]) == 0
    capsys.readouterr()
    assert main(["mode=predict", "run=pose", "input=digits/3", "output=out"]) == 0
    shown = capsys.readouterr().out
    run = dltrain.load("pose")
    head, *lines = rows(Path("out"))
    assert head == ["file", *run.value_names]
    assert run.value_names == run.spec.value_names
    assert run.class_names == ()
    for line, entry in zip(lines[:5], read_json(Path("out"))["predictions"], strict=False):
        expected = run.predict(f"digits/3/{line[0]}")
        assert dict(zip(head[1:], map(float, line[1:]), strict=True)) == pytest.approx(expected, abs=1e-4)
        assert {name: repr(value) for name, value in entry["values"].items()} == dict(
            zip(head[1:], line[1:], strict=True)
        )
    assert ["value", "smallest", "mean", "largest"] in [line.split() for line in shown.splitlines()]


# ---- mistakes, and nothing half-made


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["input=digitz"], "type     dltrain mode=predict run=last input=digits"),
        (["input=digits/*.png"], "nearest  digits, which holds 0/400.png"),
        ([], "mode=predict needs the images"),
        (["input=digits", "output=digits"], "output=digits-2"),
        (["input=digits", "output=outputs/notes"], "output=outputs/notes is a file"),
        (["input=digits", "model=mlp"], "model=mlp has no say in mode=predict"),
        (["input=digits", "checkpoint=worst"], "best, last"),
    ],
)
def test_mistakes_end_before_torch_and_make_nothing(
    words: list[str], shown: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("outputs/notes").touch()
    before = tree_of(here)
    monkeypatch.setattr(predict_files, "network", None)
    assert main([*PREDICT, *words]) == 2
    assert shown in capsys.readouterr().err
    assert tree_of(here) == before


def test_a_mistake_in_the_input_imports_no_torch(here: Path) -> None:
    code = (
        "import sys; from dltrain.cli import main\n"
        "assert main(['mode=predict', 'run=last', 'input=digitz']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_no_readable_image_is_a_failure_that_names_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree_of(Path("outputs"))
    assert main([*PREDICT, "input=odd/[cdet]*.png"]) == 0  # the control: among them are some that can be read
    shutil.rmtree(all_runs()[0] / "predict")
    Path("bad").mkdir()
    for name in ("cut.png", "empty.png"):
        shutil.copy(f"odd/{name}", "bad")
    assert main([*PREDICT, "input=bad"]) == 1
    told = capsys.readouterr().err
    assert "cut.png cannot be read: image file is truncated" in told
    assert "empty.png is not an image" in told
    assert set(tree_of(Path("outputs"))) == set(before)


def test_output_may_be_an_empty_folder_and_is_never_written_over(here: Path) -> None:
    Path("empty").mkdir()
    inode = Path("empty").stat().st_ino
    assert main([*PREDICT, "input=digits/3/1902.png", "output=empty"]) == 0
    assert Path("empty").stat().st_ino == inode
    before = tree_of(Path("empty"))
    assert main([*PREDICT, "input=digits/3/1902.png", "output=empty"]) == 2
    assert tree_of(Path("empty")) == before
    assert main([*PREDICT, "input=digits/3/1902.png", "output=a/b/прогон #1"]) == 0
    assert len(list(Path("a/b/прогон #1").iterdir())) == 3
    for _ in range(2):  # twice within a second or not: two folders
        assert main([*PREDICT, "input=digits/3/1902.png"]) == 0
    assert len(list((all_runs()[0] / "predict").iterdir())) == 2


@pytest.mark.parametrize("place", ["out", "new/er", "fill", None])
@pytest.mark.parametrize("what", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_stopped_or_failed_halfway_leaves_nothing(
    what: BaseException, place: str | None, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    Path("fill").mkdir()
    before = set(tree_of(here))
    real, calls = atomic.write_new, iter([False, True])

    def write_new(*args: Any) -> None:
        if next(calls):
            raise what
        real(*args)

    monkeypatch.setattr(atomic, "write_new", write_new)
    words = [] if place is None else [f"output={place}"]
    code = main([*PREDICT, "input=digits/3", *words])
    assert code == (130 if isinstance(what, KeyboardInterrupt) else 1)
    assert set(tree_of(here)) == before
    told = capsys.readouterr().err
    assert ("stopped" if code == 130 else "no space left on") in told


def test_files_are_decoded_only_a_little_ahead() -> None:
    lock, started = threading.Lock(), 0

    def read(path: Path) -> Any:
        nonlocal started
        with lock:
            started += 1
        return np.zeros((1, 1, 1), np.uint8)

    for done, _ in enumerate(decoded_files(Inputs(Path(), [str(i) for i in range(1000)]), read)):
        assert started <= done + AHEAD
    assert started == 1000


def test_input_completes_with_files(here: Path) -> None:
    from dltrain.config.complete import complete

    assert complete(["mode=predict", "input=di"]) == ["input=digits/"]
    assert complete(["mode=predict", "in"]) == ["init=", "input="]


# ---- runs that are not to be trusted


def test_a_record_of_giant_images_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(all_runs()[0])
    edit(run.path / "environment.json", lambda tree: tree["data_spec"].update(shape=[1, 60000, 60000]))
    assert main([*PREDICT, "input=digits/3"]) == 2
    assert "environment.json" in capsys.readouterr().err


def test_a_config_of_a_larger_network_than_the_checkpoints_takes_no_memory(here: Path, capsys: Any) -> None:
    run = Run(all_runs()[0])
    other = json.loads((run.path / "config.json").read_text())
    other["model"] = {"name": "mlp", "widths": [10**6] * 4, "depth": None, "activation": "relu", "norm": "none"}
    other["model"]["dropout"] = 0.0
    (run.path / "config.json").write_text(json.dumps(other))
    assert main([*PREDICT, "input=digits/3"]) == 2
    assert "3,001,038,000,010 parameters" in capsys.readouterr().err


def test_read_function_is_evaluations_own(here: Path) -> None:
    """The files of the test split, read as predict reads them, are the pixels that evaluation has."""
    run = dltrain.load("last")
    read = data.decode_for(run.config, run.spec)
    images = data.open_data(run.config, run.spec, torch.device("cpu"), "resident", 0, print)
    batch = next(iter(images.split("test")))
    for position in (0, 99, 100, 255):
        number = int(batch.ids[position])
        file = f"digits/{number // 500}/{number}.png"
        assert torch.equal(run.preprocess(file), batch.images[position])
        assert read(file).dtype == np.uint8


def test_captions_tell_files_of_one_name_apart_and_keep_the_figure_of_a_long_class() -> None:
    """What stands behind the tab is never cut."""
    spec = DataSpec("x", (1, 8, 8), Target.classes, ("cat", "d" * 200), {}, (0.0,), (1.0,))
    captions = [predict_files._caption(name, np.array([0.25, 0.75]), spec) for name in ("a.png", "in/b\n/a.png")]
    assert [caption.split("\n")[0] for caption in captions] == ["a.png", "b\\n/\ta.png"]
    assert all(caption.endswith("\t75.0 %") for caption in captions)
