"""The lines of a run, from the banner to the commands at its end."""

import io
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dltrain.config import data, groups, mode, model, table
from dltrain.config.spec import DataSpec, Target
from dltrain.report import Report
from dltrain.report.lines import Lines
from dltrain.report.recipe import recipe
from dltrain.report.terminal import ERASE, Screen
from dltrain.tasks import Evaluation

RESULTS: dict[str, Any] = {
    "status": "completed",
    "metrics": {"test/accuracy": 0.981, "test/macro_f1": 0.9805, "test/loss": 0.0711, "test/accuracy/cat": 0.97},
    "best": {"epoch": 17, "step": 459, "metric": "val/accuracy", "value": 0.986},
    "weights_sha256": "3f9c" * 16,
    "epochs": 20,
    "steps": 540,
    "seconds": 9.2,
    "images_per_second": 12_400.4,
}


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def make(out: io.StringIO, folder: Path, typed: tuple[str, ...] = (), **changes: Any) -> Lines:
    cfg = mode.Train(
        model=model.LeNet5(),
        data=data.Digits(),
        task=groups.Classification(),
        trainer=groups.Trainer(epochs=20),
        log=groups.Log(),
        seed=0,
    )
    spec = DataSpec(
        name="digits",
        shape=(1, 32, 32),
        target=Target.classes,
        class_names=tuple("0123456789"),
        counts=changes.get("counts", {"train": 3500, "val": 500, "test": 1000}),
        mean=(0.13,),
        std=(0.31,),
        where=changes.get("where", "embedded"),
        notes=("a part of MNIST's training set",),
    )
    screen = Screen(out, io.StringIO())
    screen.typed = list(typed)
    return Lines(screen, cfg, spec, SimpleNamespace(path=folder))  # type: ignore[arg-type]


def made_of(lines: Lines) -> tuple[Any, DataSpec, Any]:
    return lines.cfg, lines.spec, lines.run


ENVIRONMENT: Any = SimpleNamespace(device="cpu", threads=2, precision="fp32", reasons={"device": "no GPU here"})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("dltrain.report.lines.run_word", lambda path: "last")
    folder = tmp_path / "outputs" / "2026-11-24" / "21-10-27-lenet5-digits"
    folder.mkdir(parents=True)
    return folder


def test_plain_run_from_banner_to_end(run: Path) -> None:
    out = io.StringIO()
    report = make(out, run)
    report.banner(61706, ENVIRONMENT, ["from model=lenet5: optim=sgd schedule=onecycle"])
    for epoch in (1, 2):
        report.step(25 * epoch, 540, epoch, 20, {"train/loss": 0.0814}, 12_400.0)
        row = {"epoch": epoch, "step": 27 * epoch, "train/loss": 0.0814, "val/loss": 0.1, "val/accuracy": 0.983}
        report.epoch(row | {"val/accuracy/7": 0.9}, epoch == 1)
    report.end(RESULTS)
    lines = out.getvalue().splitlines()
    left = lines[4].split("  ")[-2]
    assert left.endswith(" left")
    assert lines == [
        "lenet5 (61,706 parameters) on digits (3,500 train, 500 val, 1,000 test images; 10 classes; embedded)",
        "cpu, 2 threads, fp32, seed 0, exact   run outputs/2026-11-24/21-10-27-lenet5-digits",
        "a part of MNIST's training set",
        "from model=lenet5: optim=sgd schedule=onecycle",
        f"epoch  1/20  loss 0.0814  val loss 0.1  val accuracy 98.3 %  {left}  best",
        f"epoch  2/20  loss 0.0814  val loss 0.1  val accuracy 98.3 %  {lines[5].split('  ')[-1]}",
        "test accuracy  98.1 % ± 0.4   981 of 1,000 images; ± is one standard error",
        "test macro F1  98.0 %",
        "test loss      0.0711",
        "best epoch     17 of 20   val accuracy 98.6 %",
        "weights        sha256 3f9c3f9c3f9c",
        "time           9 s   12,400 images/s",
        "run            outputs/2026-11-24/21-10-27-lenet5-digits",
        "next           dltrain mode=eval run=last",
        "               dltrain -m model=mlp,lenet5 seed=0,1,2",
        "               dltrain mode=reproduce run=last",
        "               tensorboard --logdir outputs",
    ]


def test_terminal_of_40_columns_folds_what_is_no_command(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    report = make(out, run)
    report.step(50, 540, 2, 20, {"train/loss": 0.0814}, 12_400.0)
    report.epoch({"epoch": 2, "step": 54, "train/loss": 0.08, "val/accuracy": 0.983}, True)
    report.end(RESULTS)
    lines = out.getvalue().split(ERASE)[-1].splitlines()
    assert lines[:3] == [
        "test accuracy  98.1 % ± 0.4   981 of",
        "               1,000 images; ± is one",
        "               standard error",
    ]
    assert all(len(line) <= 40 for line in lines if "dltrain" not in line and "outputs" not in line)
    assert "epoch  2/20  loss 0.0800" not in out.getvalue().split(ERASE)[-1], "on a terminal an epoch prints no line"


def test_every_scalar_of_a_named_update_is_told_apart(run: Path) -> None:
    out = io.StringIO()
    make(out, run).epoch({"epoch": 1, "step": 27, "train/generator/loss": 0.7, "train/critic/loss": 1.3}, False)
    assert out.getvalue().startswith("epoch  1/20  generator loss 0.7000  critic loss 1.3000")


GENERATED = {"fid": 8.314, "real_fid": 0.412, "precision": 0.81, "recall": 0.7, "rarest_class": 0.056}


def test_what_two_networks_play_reads_well_on_a_terminal(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells how far it has come stands first: their losses do not."""
    losses = {"train/lr": 2e-4, "train/discriminator/loss": 1.3072, "train/generator/loss": 0.8123}
    row = losses | {"epoch": 2, "step": 54} | {f"val/{name}": value for name, value in GENERATED.items()}
    for columns, expected in ((120, True), (64, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = Terminal()
        report = make(out, run)
        report.epoch(row, True)
        report.step(60, 540, 3, 20, losses, 4_400.0)
        (line,) = [text for text in out.getvalue().split(ERASE) if text]
        assert line.startswith("epoch  3/20  ")
        assert "val FID 8.314" in line
        both = "discriminator loss 1.3072, generator loss 0.8123"
        assert (both in line) is expected
        assert not expected or line.index("val FID") < line.index(both) < line.index("4,400 img/s")
    plain = io.StringIO()
    make(plain, run).epoch(row, True)
    assert plain.getvalue() == (
        "epoch  2/20  discriminator loss 1.3072  generator loss 0.8123  "
        "val FID 8.314  val real FID 0.412  val precision 81.0 %  best\n"
    )


def test_measures_of_generated_images_stand_beside_those_of_real_ones(run: Path) -> None:
    out = io.StringIO()
    found = GENERATED | {"checkerboard": 6.02, "real_checkerboard": -1.31, "real_score": 0.61, "class_share/7": 0.1}
    best = {"epoch": 17, "step": 459, "metric": "-val/fid", "value": 8.01}
    make(out, run).end(RESULTS | {"metrics": {f"test/{k}": v for k, v in found.items()}, "best": best})
    lines = out.getvalue().splitlines()
    assert lines[:7] == [
        "test FID          8.314   real images 0.412",
        "test precision    81.0 %",
        "test rarest class 5.6 %",
        "test recall       70.0 %",
        "test checkerboard 6.0 dB   real images -1.3 dB",
        "test real score   0.61",
        "best epoch        17 of 20   val FID 8.01",
    ]


def test_a_note_is_told_once_for_as_long_as_it_holds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    report = Report(make(out, run).screen, *made_of(make(out, run)), "step")
    report.board = report.album = None

    def told(*notes: str, evaluated: bool = True) -> list[str]:
        before = len(out.getvalue())
        row = {"epoch": 1, "step": 27} | ({"val/fid": 3.0} if evaluated else {})
        report.epoch([row], False, Evaluation({"fid": 3.0} if evaluated else {}, notes=notes))
        return out.getvalue()[before:].splitlines()[1:]

    won, lost = "the discriminator has won: try half its rate", "2 of 10 classes are lost: 3 and 7"
    assert told() == []
    assert told(won) == [f"note  {won}"]
    assert told(won, lost) == [f"note  {lost}"]
    assert told(evaluated=False) == [], "an epoch without evaluation says nothing"
    assert told(won, "3 of 10 classes are lost: 3, 4 and 7") == [], "its numbers may change"
    assert told(lost) == []
    assert told(lost, won) == [f"note  {won}"], "it holds again"
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    make(terminal, run).notes([won])
    assert terminal.getvalue().splitlines() == ["note  the discriminator has won: try", "      half its rate"]


def test_all_right_is_not_shown_as_certain(run: Path) -> None:
    out = io.StringIO()
    make(out, run).end(RESULTS | {"metrics": {"test/accuracy": 1.0}})
    assert "100.0 % ± 0.05   1,000 of 1,000 images" in out.getvalue()


def test_without_a_test_split_the_screen_says_so(run: Path) -> None:
    out = io.StringIO()
    make(out, run, counts={"train": 300, "val": 30}).end(RESULTS | {"metrics": {"val/accuracy": 0.9}})
    assert "no test images" in out.getvalue()
    assert "test accuracy" not in out.getvalue()


def test_an_interrupted_run_says_how_to_go_on(run: Path) -> None:
    for reason, words in (("SIGINT", "asked to stop by SIGINT"), ("max_time", "trainer.max_time is over")):
        out = io.StringIO()
        make(out, run).end(RESULTS | {"status": "interrupted", "steps": 310, "metrics": {}}, reason)
        assert out.getvalue().splitlines() == [
            f"stopped        {words}; saved at step 310 of 540",
            "run            outputs/2026-11-24/21-10-27-lenet5-digits",
            "next           dltrain resume=last",
        ]


PICTURES = ["run.png", "batch.png", "confusion.png", "predictions.png", "worst.png"]


def test_pictures_are_named_below_the_run_and_folded_on_a_narrow_terminal(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason, results in (("completed", RESULTS), ("SIGINT", RESULTS | {"metrics": {}})):
        out = io.StringIO()
        make(out, run).end(results, reason, PICTURES)
        lines = out.getvalue().splitlines()
        at = lines.index("run            outputs/2026-11-24/21-10-27-lenet5-digits")
        assert lines[at + 1] == (
            "pictures       pictures/run.png, batch.png, confusion.png, predictions.png, worst.png"
        )
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    make(terminal, run).end(RESULTS, "completed", PICTURES)
    folded = terminal.getvalue().split("pictures       ")[1].split("next")[0].split()
    assert folded == ["pictures/run.png,", "batch.png,", "confusion.png,", "predictions.png,", "worst.png"]
    assert all(len(line) <= 40 for line in terminal.getvalue().splitlines() if ".png" in line)


def test_tensorboard_gets_the_fewer_pictures_the_longer_a_run_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture stays in the event file: as many as evaluations would fill a disk."""
    lines = make(io.StringIO(), run)
    steps: list[int] = []
    for start, expected in ((0, [1, 2, 3, 4, 5, 7, 9, 12, 15, 19]), (8, [10, 13, 17])):  # from anew; resumed at 8
        report = Report(lines.screen, lines.cfg, lines.spec, lines.run, "val/accuracy", start)
        monkeypatch.setattr(report.album, "epoch", lambda *_: {"worst": None})
        board = SimpleNamespace(epoch=lambda _: None, image=lambda name, image, step: steps.append(step))
        monkeypatch.setattr(report, "board", board)
        for epoch in range(start + 1, 21):
            report.epoch([{"epoch": epoch, "step": epoch, "val/accuracy": 0.9}], False, Evaluation({"accuracy": 0.9}))
        assert steps == expected
        steps.clear()


def test_inside_a_sweep_banner_and_end_go_to_run_log_alone(run: Path) -> None:
    out = io.StringIO()
    report = make(out, run)
    report.screen.brief = True
    report.screen.attach(run / "run.log")
    report.banner(61706, ENVIRONMENT)
    report.end(RESULTS)
    assert out.getvalue() == ""
    log = (run / "run.log").read_text()
    assert "61,706 parameters" in log
    assert "device: no GPU here" in log
    assert "dltrain mode=eval run=last" in log


def test_hostile_names_in_paths_are_escaped(run: Path) -> None:
    out = io.StringIO()
    make(out, run, where="/tmp/[red]\x1b]0;x\x07\nphotos").banner(1, ENVIRONMENT)
    assert "/tmp/[red]\\x1b]0;x\\x07\\nphotos" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ((), "dltrain -m model=mlp,lenet5 seed=0,1,2"),
        (("seed=7", "data=mnist", "output=x"), "dltrain -m model=mlp,lenet5 data=mnist seed=0,1,2"),
        (("model=mlp", "model.widths=[30,10]"), "dltrain -m model=mlp 'model.widths=[30,10]' seed=0,1,2"),
        (
            ("data=folder", "data.root=my photos"),
            "dltrain -m model=mlp,lenet5 data=folder 'data.root=my photos' seed=0,1,2",
        ),
        (("data.root=a,b",), None),
        (("resume=last",), None),
    ],
)
def test_the_sweep_shown_repeats_what_was_typed(run: Path, typed: tuple[str, ...], command: str | None) -> None:
    shown = [text for text in make(io.StringIO(), run, typed).next_commands() if " -m " in text]
    assert shown == ([command] if command else [])
    for text in shown:
        assert shlex.split(text)[0] == "dltrain"


YAML = {
    "model/small": "defaults: [_mlp, override /optim@_global_.optim: adam_x,"
    " override /schedule@_global_.schedule: step]",
    "model/smaller": "defaults: [small, _self_]",
    "reg/dropout": "defaults: [none, /preset@_global_: half, _self_]",
    "preset/half": "model: {dropout: 0.5}",
    "experiment/whole": "defaults: [override /model: small, _self_]\n"
    "trainer: {epochs: 3, ema: null}\ntask: {balanced: true}",
}


def test_recipe_says_what_was_taken_from_where_and_leaves_out_what_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in YAML.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr("dltrain.config.table.configs_folder", lambda: tmp_path)
    choices = {"experiment": "none", "reg": "none", "model": "small", "optim": "adam_x", "schedule": "step"}
    assert recipe(choices) == ["from model=small: optim=adam_x schedule=step"]
    assert recipe(choices | {"optim": "sgd"}, ["optim=sgd"]) == ["from model=small: schedule=step"]
    assert recipe(choices, ["optim.lr=0.1"]) == ["from model=small: optim=adam_x schedule=step"]
    assert recipe(choices | {"model": "smaller"}) == ["from model=smaller: optim=adam_x schedule=step"]
    assert recipe(choices | {"reg": "dropout"}, ["model=small", "optim=adam_x", "schedule=step"]) == [
        "from reg=dropout: model.dropout=0.5"
    ]
    assert recipe(choices | {"experiment": "whole"}, ["experiment=whole", "trainer.epochs=5"]) == [
        "from experiment=whole: model=small trainer.ema=null task.balanced=true",
        "from model=small: optim=adam_x schedule=step",
    ]
    assert recipe({"model": "no_such_model"}) == []


def test_every_recipe_that_is_shipped_can_be_told() -> None:
    for group in ("model", "experiment", "reg"):
        for option in table.options(group):
            for line in recipe({group: option}):
                assert line.startswith(f"from {group}={option}: ")
