"""Frames and animated pictures: the same after any number of kills, few enough, and never half-written."""

import errno
import hashlib
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain import atomic
from dltrain.cli import main
from dltrain.config import groups, model
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec, Target
from dltrain.engine import loop
from dltrain.report import Report, rows
from dltrain.report.album import Album
from dltrain.report.frames import STRIP, caption
from dltrain.report.samples import grid
from dltrain.report.terminal import Screen
from dltrain.run import Run
from dltrain.tasks import Evaluation
from dltrain.tasks.classification import Classification

SPEC = DataSpec("digits", (1, 28, 28), Target.classes, ("a", "b"), {"train": 10, "val": 2}, (0.1,), (0.3,))
CFG = Config(model=model.LeNet5(), trainer=groups.Trainer(), log=groups.Log(tensorboard=False))
MONITOR = "-val/fid"


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "step": 10 * epoch, "train/loss": 1.0, "val/fid": 50.0 / epoch}


def frame(epoch: int, side: int = 64) -> Image.Image:
    """Another picture at each epoch, which a lost or doubled frame would change."""
    return grid(np.random.default_rng(epoch).integers(0, 256, (16, 1, side, side), dtype=np.uint8))


def album(folder: Path, step: int = 0, err: io.StringIO | None = None) -> Album:
    return Album(folder, CFG, SPEC, MONITOR, Screen(io.StringIO(), err or io.StringIO()), step)


def evaluate(to: Album, first: int, last: int, side: int = 64) -> None:
    for epoch in range(first, last + 1):
        to.frames([row(e) for e in range(1, epoch + 1)], {"samples": partial(frame, epoch, side)})


def end(to: Album, last: int) -> None:
    to.end([row(e) for e in range(1, last + 1)], {}, {})


def files(folder: Path) -> dict[str, str]:
    """Digest of each file below a folder but `run.png`."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.png"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def shown(path: Path) -> list[np.ndarray]:
    """The frames of an animated picture, without their captions."""
    with Image.open(path) as image:
        found = []
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            found.append(np.asarray(image.convert("L"))[:-STRIP])
        return found


# ---- which


@pytest.mark.parametrize("n", [0, 1, 2, 99, 100, 101, 198, 199, 200, 397, 1000, 12_345])
def test_few_frames_are_kept_evenly_with_the_first_and_the_last(n: int) -> None:
    steps = [7 * i for i in range(1, n + 1)]
    kept = rows.kept(steps)
    assert len(kept) <= rows.MOST
    assert len(kept) == n or len(kept) >= rows.MOST // 2
    assert kept[:1] == steps[:1]
    assert kept[-1:] == steps[-1:]
    gaps = np.diff(kept)
    assert len(set(gaps[:-1])) <= 1, "all but the last are as far apart"


def test_no_frame_that_was_dropped_has_to_come_back() -> None:
    steps: list[int] = []
    there: set[int] = set()
    for step in range(1, 450):
        steps.append(step)
        there = {*(there | {step}) & {*rows.kept(steps), *rows.kept(steps[:-1])}}
        assert set(rows.kept(steps)) <= there
        assert set(rows.kept(steps[:-1])) <= there, "a run may be killed before the checkpoint"


def test_tensorboard_gets_frames_at_steps_that_follow_from_the_rows_alone() -> None:
    steps = list(range(1, 21))
    assert [n for n in steps if rows.is_spaced(steps[:n])] == [1, 2, 3, 4, 5, 7, 9, 12, 15, 19]
    assert not rows.is_spaced([])


def test_rows_without_evaluation_have_no_frame() -> None:
    assert rows.evaluated([row(1), {"epoch": 2, "step": 20, "train/loss": 1.0}, row(3)]) == [10, 30]


# ---- what lies in the folder


def test_every_frame_is_there_and_the_newest_one_has_a_name_of_its_own(tmp_path: Path) -> None:
    to = album(tmp_path)
    evaluate(to, 1, 3)
    assert sorted(files(tmp_path)) == ["samples.png", "samples/10.png", "samples/20.png", "samples/30.png"]
    for name in ("samples.png", "samples/30.png"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / name)), np.asarray(frame(3)))
    end(to, 3)
    assert to.names() == ["run.png", "samples.gif", "samples.png"]
    for epoch, found in enumerate(shown(tmp_path / "samples.gif"), start=1):
        assert np.array_equal(found, np.asarray(frame(epoch))), "grey images as they are"


@pytest.mark.parametrize("n", [99, 120])
def test_a_long_run_is_thinned(n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.os, "fsync", lambda _: None)
    evaluate(to := album(tmp_path), 1, n, 4)
    assert len(list((tmp_path / "samples").iterdir())) <= rows.MOST + 1
    end(to, n)
    kept = rows.kept([10 * e for e in range(1, n + 1)])
    assert sorted(int(path.stem) for path in (tmp_path / "samples").iterdir()) == kept
    with Image.open(tmp_path / "samples.gif") as image:
        assert image.n_frames == len(kept)  # type: ignore[attr-defined]


@pytest.mark.parametrize("killed", [1, 2, 7, 8, 9, 15, 16])
def test_a_run_that_was_killed_behind_a_frame_ends_with_the_same_files(
    killed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame of evaluation `killed` was written, its checkpoint was not."""
    monkeypatch.setattr(atomic.os, "fsync", lambda _: None)
    monkeypatch.setattr(rows, "MOST", 8)
    evaluate(whole := album(tmp_path / "whole"), 1, 17, 4)
    end(whole, 17)
    evaluate(album(tmp_path / "killed"), 1, killed, 4)
    stopped = album(tmp_path / "killed", 10 * (killed - 1))
    end(stopped, killed - 1)  # it goes on and is stopped at once: as if it had been stopped there
    evaluate(at_once := album(tmp_path / "short"), 1, killed - 1, 4)
    end(at_once, killed - 1)
    assert files(tmp_path / "killed") == files(tmp_path / "short")
    again = album(tmp_path / "killed", 10 * (killed - 1))
    evaluate(again, killed, 17, 4)
    end(again, 17)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_run_that_begins_anew_has_no_old_frames_and_what_others_put_there_stays(tmp_path: Path) -> None:
    evaluate(to := album(tmp_path), 1, 2)
    end(to, 2)
    (tmp_path / "samples" / ".20.png.0123456789abcdef.tmp").write_text("half")
    (tmp_path / "samples" / "mine.png").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    album(tmp_path, 0)
    assert sorted(files(tmp_path)) == ["mine/notes.txt", "samples/mine.png"]


def test_one_evaluation_makes_no_animated_picture(tmp_path: Path) -> None:
    evaluate(to := album(tmp_path), 1, 1)
    end(to, 1)
    assert sorted(files(tmp_path)) == ["samples.png", "samples/10.png"]


def test_the_caption_says_how_far_the_run_had_come() -> None:
    assert caption({"epoch": 12, "step": 1200, "val/fid": 8.3141}, MONITOR) == "epoch 12   step 1,200   FID 8.314"
    assert caption({"epoch": 12, "step": 1200}, "step") == "epoch 12   step 1,200"


def test_colours_are_shown_and_large_frames_reduced(tmp_path: Path) -> None:
    to = album(tmp_path)
    for epoch in (1, 2):
        pixels = np.random.default_rng(epoch).integers(0, 256, (64, 3, 1, 1), dtype=np.uint8)
        large = grid(pixels.repeat(128, 2).repeat(128, 3))
        to.frames([row(e) for e in range(1, epoch + 1)], {"samples": partial(Image.Image.copy, large)})
    end(to, 2)
    assert large.size == (1042, 1042)
    with Image.open(tmp_path / "samples.gif") as image:
        assert image.size == (640, 640 + STRIP)
        image.seek(1)
        there = np.asarray(image.convert("RGB")).astype(int)
    for i in range(64):
        y, x = ((40 + 80 * part) for part in divmod(i, 8))
        assert np.abs(there[y, x] - pixels[i, :, 0, 0]).max() < 40


# ---- what goes wrong


def test_a_frame_that_cannot_be_drawn_is_one_warning(tmp_path: Path) -> None:
    err = io.StringIO()
    to = album(tmp_path, err=err)

    def broken() -> Image.Image:
        raise RuntimeError("no memory")

    for _ in range(3):
        assert to.frames([row(1)], {"samples": broken}) == {}
    assert err.getvalue() == (
        f"warning  {tmp_path.name}/samples.png could not be made: no memory\n  the run goes on without it\n"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_leaves_the_old_animated_picture_whole(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    to = album(tmp_path, err=err)
    evaluate(to, 1, 3)
    end(to, 3)
    before = files(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    evaluate(to, 4, 4)
    end(to, 3)
    assert files(tmp_path) == before
    assert err.getvalue().count("warning") == 1


@pytest.mark.parametrize("damage", ["half", "text", "other size", "gone", "link", "jpeg"])
def test_a_frame_that_was_damaged_is_left_out(damage: str, tmp_path: Path) -> None:
    """Nothing in a run folder is trusted: frames are read back as PNG files and as nothing else."""
    err = io.StringIO()
    to = album(tmp_path / "pictures", err=err)
    evaluate(to, 1, 4)
    path = tmp_path / "pictures" / "samples" / "20.png"
    whole = path.read_bytes()
    path.unlink()
    if damage == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        path.write_text("no picture")
    elif damage == "other size":
        frame(2, 16).save(path)
    elif damage == "jpeg":
        frame(2).save(path, "JPEG")
    elif damage == "link":
        (tmp_path / "elsewhere.png").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere.png")
    end(to, 4)
    found = shown(tmp_path / "pictures" / "samples.gif")
    assert [any(np.array_equal(one, np.asarray(frame(e))) for one in found) for e in (1, 2, 3, 4)] == [1, 0, 1, 1]
    assert err.getvalue() == ""
    assert damage != "link" or (tmp_path / "elsewhere.png").read_bytes() == whole


# ---- by the command line

SMALL = ["model=mlp", "model.widths=[8]", "trainer.batch_size=500", "trainer.threads=1", "schedule=constant"]
SMALL += ["device=cpu"]


@pytest.fixture
def drawn_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs whose evaluation also draws the weights, as they are at that moment."""
    monkeypatch.chdir(tmp_path)
    evaluate = Classification.evaluate

    def with_frame(self: Any, batches: Any) -> Evaluation:
        weights = next(self.model.parameters()).detach()[:, :784].reshape(-1, 1, 28, 28)
        pixels = (128 + 500 * weights).clamp(0, 255).to(torch.uint8)
        return evaluate(self, batches)._replace(frames={"weights": lambda: grid(pixels, 4)})

    monkeypatch.setattr(Classification, "evaluate", with_frame)
    return tmp_path


def animated(run: Path) -> dict[str, str]:
    return {name: digest for name, digest in files(run / "pictures").items() if name.startswith("weights")}


def test_a_killed_run_ends_with_the_frames_and_the_bytes_of_one_that_never_stopped(
    drawn_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "trainer.epochs=4", "output=whole"]) == 0
    assert "weights.gif, weights.png" in capsys.readouterr().out
    assert set(animated(Path("whole"))) == {
        "weights.gif",
        "weights.png",
        *(f"weights/{step}.png" for step in (7, 14, 21, 28)),
    }
    assert len(set(animated(Path("whole")).values())) == 5, "each frame is another, and weights.png the last of them"
    real, calls = loop.save, []

    def fails(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("the power is gone")
        real(*args, **kwargs)

    monkeypatch.setattr(loop, "save", fails)
    assert main([*SMALL, "trainer.epochs=4", "output=killed"]) == 1
    assert (Path("killed") / "pictures" / "weights" / "21.png").exists(), "killed between a frame and its checkpoint"
    monkeypatch.setattr(loop, "save", real)
    assert main(["resume=killed"]) == 0
    assert animated(Path("killed")) == animated(Path("whole"))
    assert (Path("killed") / "metrics.csv").read_bytes() == (Path("whole") / "metrics.csv").read_bytes()
    assert main([*SMALL, "trainer.epochs=2", "output=longer"]) == 0
    assert main(["resume=longer", "trainer.epochs=4"]) == 0
    assert animated(Path("longer")) == animated(Path("whole"))


def test_frames_are_in_tensorboard_and_without_pictures_there_are_none(drawn_weights: Path) -> None:
    from tests.faults.told import told

    assert main([*SMALL, "trainer.epochs=6", "output=run"]) == 0
    assert [step for step, _ in told(Path("run"))["val weights"]] == [7, 14, 21, 28, 35]
    assert main([*SMALL, "trainer.epochs=1", "log.pictures=false", "output=bare"]) == 0
    assert not (Path("bare") / "pictures").exists()


def test_the_report_shows_what_the_album_draws(tmp_path: Path) -> None:
    report = Report(Screen(io.StringIO(), io.StringIO()), CFG, SPEC, Run(tmp_path), MONITOR)
    report.epoch([row(1)], True, Evaluation({"fid": 50.0}, frames={"samples": lambda: frame(1)}))
    report.epoch([row(1), {"epoch": 2, "step": 20}], False, Evaluation({}))
    assert sorted(files(tmp_path / "pictures")) == ["samples.png", "samples/10.png"]
    assert (tmp_path / "pictures" / "samples.png").stat().st_nlink == 2, "one file with two names"
