"""The pictures of a run: there at the end and now and then before, and never in the way of the run."""

import errno
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain import atomic
from dltrain.cli import main
from dltrain.config import groups, model, table
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec, Target
from dltrain.report import Report
from dltrain.report import album as module
from dltrain.report.album import EVERY, Album
from dltrain.report.terminal import Screen
from dltrain.run import Run
from dltrain.tasks import Evaluation

SMALL = ["model=mlp", "model.widths=[8]", "trainer.batch_size=512", "trainer.threads=1", "log.tensorboard=false"]
ALL = ["run.png", "batch.png", "confusion.png", "predictions.png", "worst.png"]
SPEC = DataSpec("digits", (1, 28, 28), Target.classes, ("a", "b"), {"train": 10, "val": 2}, (0.1,), (0.3,))
ROWS = [{"epoch": e, "step": 27 * e, "train/loss": 1 / e, "val/accuracy": 1 - 1 / e} for e in (1, 2, 3)]


def plain(colour: int) -> Callable[[], Image.Image]:
    return lambda: Image.new("RGB", (8, 8), (colour, 0, 0))


def colour(path: Path) -> int:
    with Image.open(path) as image:
        pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel[0]


@pytest.fixture
def err() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def album(tmp_path: Path, err: io.StringIO) -> Album:
    cfg = Config(model=model.LeNet5(), seed=3)
    return Album(tmp_path / "pictures", cfg, SPEC, "val/accuracy", Screen(io.StringIO(), err))


# ---- when


def test_meanwhile_pictures_are_drawn_every_30_seconds_and_slow_ones_less_often(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    took = 0.1

    def slow() -> Image.Image:
        nonlocal now
        now += took
        return plain(1)()

    def is_drawn(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return "confusion" in album.epoch(ROWS, False, {"confusion": slow})

    assert not is_drawn(EVERY - 1)
    assert album.names() == []
    assert is_drawn(2)
    assert album.names() == ["run.png", "confusion.png"]
    assert not is_drawn(EVERY - 1)
    took = 3.0
    assert is_drawn(2)
    assert not is_drawn(2 * EVERY)
    assert is_drawn(3.0 / module.LARGEST_SHARE)


def test_at_the_end_the_test_is_shown_or_else_the_best_evaluation(album: Album, tmp_path: Path) -> None:
    for is_best, shade in ((True, 10), (True, 20), (False, 30)):
        assert album.epoch(ROWS, is_best, {"worst": plain(shade)}) == {}
    album.epoch(ROWS, False, {})  # an epoch without evaluation
    assert set(album.end(ROWS, {}, {})) == {"worst"}
    assert colour(tmp_path / "pictures" / "worst.png") == 20
    album.end(ROWS, {}, {"worst": plain(40)})
    assert colour(tmp_path / "pictures" / "worst.png") == 40
    assert album.names() == ["run.png", "worst.png"]


def test_a_run_that_ends_before_its_first_epoch_has_no_curves(album: Album) -> None:
    album.batch({"batch": plain(1)})
    assert album.end([], {}, {}) == {}
    assert album.names() == ["batch.png"]


# ---- what goes wrong


def broken() -> Image.Image:
    raise RuntimeError("no glyph\nmore lines")


def test_a_picture_that_cannot_be_drawn_is_one_warning_and_the_others_are_there(
    album: Album, err: io.StringIO, tmp_path: Path
) -> None:
    album.screen.attach(tmp_path / "run.log")
    for _ in range(3):
        assert set(album.draw({"worst": broken, "confusion": plain(1)})) == {"confusion"}
    assert album.names() == ["confusion.png"]
    assert err.getvalue() == ("warning  pictures/worst.png could not be made: no glyph\n  the run goes on without it\n")
    album.screen.detach()
    assert (tmp_path / "run.log").read_text().count("RuntimeError: no glyph") == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_one_warning_and_leaves_nothing_behind(
    album: Album, err: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    album.draw({"worst": plain(1)})

    def refuse(*_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    assert set(album.draw({"worst": plain(9), "confusion": plain(9)})) == {"worst", "confusion"}, "for TensorBoard"
    assert colour(tmp_path / "pictures" / "worst.png") == 1, "the old one is whole"
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["worst.png"]
    assert err.getvalue().count("warning") == 1
    assert ("no space left" if number == errno.ENOSPC else "refused") in err.getvalue()


def test_a_file_where_the_folder_should_be(album: Album, err: io.StringIO, tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("mine")
    album.end(ROWS, {}, {"worst": plain(1)})
    assert album.names() == []
    assert err.getvalue().count("warning") == 1
    assert (tmp_path / "pictures").read_text() == "mine"


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / ".run.png.0123.tmp").write_text("half")
    Album(tmp_path / "pictures", Config(model=model.LeNet5()), SPEC, "step", Screen())
    assert list((tmp_path / "pictures").iterdir()) == []


def test_tensorboard_is_given_the_images_that_are_written(tmp_path: Path) -> None:
    cfg = Config(
        model=model.LeNet5(),
        task=groups.Classification(),
        trainer=groups.Trainer(),
        log=groups.Log(tensorboard=False),
    )
    report = Report(Screen(io.StringIO(), io.StringIO()), cfg, SPEC, Run(tmp_path), "val/accuracy")
    shown: list[tuple[str, int, int]] = []

    class Board:
        def image(self, name: str, image: Image.Image, step: int) -> None:
            shown.append((name, np.asarray(image)[0, 0, 0], step))

        def epoch(self, row: object) -> None:
            pass

        def end(self, results: object, completed: bool) -> None:
            pass

    report.board = Board()  # type: ignore[assignment]
    report.batch({"batch": plain(3)}, 0)
    results = Run(tmp_path).results() | {"metrics": {}, "steps": 81, "seconds": 1.0}
    report.epoch(ROWS, True, Evaluation({"accuracy": 0.5}, {"worst": plain(4)}))
    report.end(results, "SIGINT", ROWS, {})
    assert shown == [("train/batch", 3, 0)]
    report.end(results, "completed", ROWS, {})
    report.end(results, "completed", ROWS, {"worst": plain(5)})
    assert shown[1:] == [("best/worst", 4, 81), ("test/worst", 5, 81)]
    assert colour(tmp_path / "pictures" / "worst.png") == 5


# ---- by the command line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_ends_with_its_pictures_and_its_weights_do_not_depend_on_them(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)  # each epoch
    monkeypatch.setattr(module, "LARGEST_SHARE", 1e9)
    words = [*SMALL, "trainer.epochs=2", "model.dropout=0.2"]
    assert main([*words, "output=with"]) == 0
    assert f"pictures       pictures/{', '.join(ALL)}\n" in capsys.readouterr().out
    assert sorted(path.name for path in (here / "with" / "pictures").iterdir()) == sorted(ALL)
    for name in ALL:
        with Image.open(here / "with" / "pictures" / name) as image:
            assert min(image.size) > 200
    assert main([*words, "log=quiet", "output=without"]) == 0
    assert "pictures" not in capsys.readouterr().out
    assert not (here / "without" / "pictures").exists()
    assert not (here / "without" / "tensorboard").exists()
    shas = [json.loads((here / name / "results.json").read_text())["weights_sha256"] for name in ("with", "without")]
    assert shas[0] == shas[1]
    assert (here / "with" / "metrics.csv").read_bytes() == (here / "without" / "metrics.csv").read_bytes()


def test_evaluation_draws_the_run_s_pictures_again_where_output_is_given(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "trainer.epochs=1", "output=run"]) == 0
    before = sorted(str(path) for path in here.rglob("*"))
    assert main(["mode=eval", "run=run"]) == 0
    assert sorted(str(path) for path in here.rglob("*")) == before
    capsys.readouterr()
    assert main(["mode=eval", "run=run", "output=again"]) == 0
    names = ["confusion.png", "predictions.png", "worst.png"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "written " + ", ".join(f"again/pictures/{name}" for name in names)
    for name in names:
        paths = [here / folder / "pictures" / name for folder in ("run", "again")]
        assert np.array_equal(*(np.asarray(Image.open(path)) for path in paths))
    assert main(["mode=eval", "run=run", "output=bare", "log.pictures=false"]) == 0
    assert not (here / "bare" / "pictures").exists()


def test_an_interrupted_run_has_its_curves(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "trainer.epochs=100000", "trainer.max_time=1s", "output=run"]) == 75
    assert (here / "run" / "pictures" / "run.png").exists()
    assert "\npictures       pictures/run.png, batch.png" in capsys.readouterr().out


def test_nothing_that_goes_wrong_with_pictures_ends_a_run(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise atomic.disk_full(path, len(content))

    monkeypatch.setattr(module.atomic, "write_bytes", full)  # a text is written by it, too
    monkeypatch.setattr(module.atomic, "write_text", lambda path, text: path.write_text(text))
    monkeypatch.setattr(module.atomic, "write_json", lambda path, value: path.write_text(json.dumps(value)))
    assert main([*SMALL, "trainer.epochs=1", "output=run"]) == 0
    told = capsys.readouterr()
    assert "test accuracy" in told.out
    assert told.err.count("warning") == 1
    assert "no space left on the file system" in told.err


WITHOUT = """
import sys
from dltrain.cli import main
from dltrain.engine import loop

HEAVY = {"matplotlib", "torchvision", "torch.utils.tensorboard", "tensorboard.program", "tensorboard.backend"}
HEAVY |= {"tensorflow", "pandas", "scipy", "sklearn", "onnx"}
seen = []
real = loop.train_step
def watched(*args):
    seen.extend(HEAVY & set(sys.modules))
    real(*args)
loop.train_step = watched
words = sys.argv[1:]
assert main([*words, "log.pictures=false"]) == 0
assert "matplotlib" not in sys.modules
assert main(words) == 0
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
assert not seen, seen
"""


def test_matplotlib_is_imported_after_the_last_step_and_without_pictures_never(here: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, *SMALL, "trainer.epochs=1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_is_an_option_of_log() -> None:
    assert "quiet" in table.options("log")
