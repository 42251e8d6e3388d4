"""`dltrain -m`: which jobs there are, that none starts if one is wrong, what a failure and a signal do to the rest."""

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dltrain import grid, job, signals, sweep
from dltrain.config.messages import Mistake
from dltrain.report.terminal import Screen
from dltrain.run import Run


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Put a job in the place of training; `act` maps a config to an exit code. Returns the configs that ran."""

    def put(act: Callable[[Any], int] = lambda cfg: 0) -> list[Any]:
        ran: list[Any] = []

        def run_job(cfg: Any, spec: Any, folder: Path, screen: Screen, *rest: Any) -> int:
            ran.append(cfg)
            value = 0.9 + 0.01 * cfg.seed
            best = {"epoch": 1, "step": 27, "metric": "val/accuracy", "value": value}
            code = act(cfg)
            done = code == 0
            Run(folder).write_results(
                status={0: "completed", 1: "failed"}.get(code, "interrupted"),
                best=best if done else None,
                metrics={"val/accuracy": value, "test/accuracy": value - 0.01} if done else {},
                weights_sha256="ab" * 32 if done else None,
                seconds=2.0,
                epochs=1,
            )
            return code

        monkeypatch.setattr(job, "run_job", run_job)
        return ran

    return put


def go(*words: str) -> int:
    return sweep.sweep(["-m", *words], Screen())


def the_folder() -> Path:
    (folder,) = Path("outputs/sweeps").glob("*/*")
    return folder


def table() -> list[dict[str, str]]:
    with (the_folder() / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- the grid


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["seed=0"], [["0"]]),
        (["model=mlp,lenet5", "seed=range(0,2)"], [["mlp", "0"], ["mlp", "1"], ["lenet5", "0"], ["lenet5", "1"]]),
        (["optim.lr=choice(0.1,1e-3)", "seed=5"], [["0.1", "5"], ["0.001", "5"]]),
        (["model.widths=[30,10],[300,100]"], [["[30,10]"], ["[300,100]"]]),
        (["data.root='a, b','c=d'"], [["'a, b'"], ["'c=d'"]]),
        (["clip=glob(*,exclude=v*)"], [["agc"], ["none"], ["norm"]]),
        (["seed=sort(3,1,2)"], [["1"], ["2"], ["3"]]),
    ],
)
def test_the_grid_is_hydras(words: list[str], wanted: list[list[str]]) -> None:
    found, _ = grid.expand(words)
    assert [[word.partition("=")[2] for word in words] for words in found] == wanted


@pytest.mark.parametrize(
    "words", [["model=mlp,lenet5", "seed=range(1,4)"], ["optim.lr=1e-2,0.1", "clip=choice(none,norm)", "seed=3"]]
)
def test_the_grid_equals_hydras_basic_sweeper(words: list[str]) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (theirs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    assert grid.expand(words)[0] == theirs


@pytest.mark.parametrize(
    ("word", "message"),
    [("optim.lr=interval(0.1,1)", "range without steps"), ("seed=1,1", "twice"), ("clip=glob(x*)", "no value")],
)
def test_a_sweep_that_is_no_grid_is_a_mistake(word: str, message: str) -> None:
    with pytest.raises(Mistake, match=message):
        grid.expand([word])


def test_the_command_of_a_job_is_typed_as_people_do() -> None:
    words = ["data.root='my photos #1'", "seed=1", "model.widths=[30,10]", "data.root='null'"]
    assert grid.as_typed(words) == ["data.root=my photos #1", "seed=1", "model.widths=[30,10]", "data.root='null'"]


# ---- one after another


def test_jobs_run_in_order_each_in_its_own_folder(
    jobs: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = jobs()
    assert go("model=mlp,lenet5", "seed=0,1", "trainer.epochs=1") == 0
    assert [(cfg.model.name, cfg.seed) for cfg in ran] == [("mlp", 0), ("mlp", 1), ("lenet5", 0), ("lenet5", 1)]
    assert all(cfg.trainer.epochs == 1 for cfg in ran)
    assert sorted(path.name for path in the_folder().iterdir() if path.is_dir()) == [
        "0-model=mlp,seed=0",
        "1-model=mlp,seed=1",
        "2-model=lenet5,seed=0",
        "3-model=lenet5,seed=1",
    ]
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("job  model   seed  status     val accuracy  test accuracy  time")
    assert lines[start + 1] == "  0  mlp     0     completed        90.0 %         89.0 %   2 s"
    assert "model   seeds  val accuracy  test accuracy" in lines
    assert "lenet5      2  90.5 % ± 0.7   89.5 % ± 0.7" in lines
    rows = table()
    assert [row["status"] for row in rows] == ["completed"] * 4
    assert rows[3]["command"] == "dltrain model=lenet5 seed=1 trainer.epochs=1"
    assert float(rows[3]["test/accuracy"]) == 0.9 + 0.01 - 0.01
    assert rows[3]["best/metric"] == "val/accuracy"


def test_hydra_files_lie_in_every_job(jobs: Callable[..., list[Any]]) -> None:
    jobs()
    assert go("seed=0,1") == 0
    for number in (0, 1):
        folder = the_folder() / f"{number}-seed={number}" / ".hydra"
        assert (folder / "overrides.yaml").read_text() == f"- seed={number}\n"
        assert {path.name for path in folder.iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "seed=0,1" in (the_folder() / "multirun.yaml").read_text()


def test_a_failed_job_is_told_at_once_and_the_rest_goes_on(
    jobs: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = jobs(lambda cfg: 1 if cfg.seed == 1 else 0)
    assert go("seed=0,1,2") == 1
    assert [cfg.seed for cfg in ran] == [0, 1, 2]
    out = capsys.readouterr().out
    assert out.index("job 1 (2 of 3)  failed  seed=1") < out.index("job 2 (3 of 3)")
    assert f"failed   job 1  seed=1   {the_folder()}/1-seed=1/run.log" in out
    assert "2 of 3  91.0 % ± 1.4" in out
    assert [row["status"] for row in table()] == ["completed", "failed", "completed"]


def test_a_mistake_that_only_torch_can_see_in_every_job_is_a_mistake(jobs: Callable[..., list[Any]]) -> None:
    jobs(lambda cfg: 2)
    assert go("seed=0,1") == 2
    jobs(lambda cfg: 2 if cfg.seed else 0)
    assert go("seed=0,1", "output=other") == 1


def test_a_job_whose_time_is_over_does_not_end_the_sweep(jobs: Callable[..., list[Any]]) -> None:
    jobs(lambda cfg: 75 if cfg.seed == 0 else 0)
    assert go("seed=0,1") == 75
    assert [row["status"] for row in table()] == ["interrupted", "completed"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_the_sweep_and_says_how_to_go_on(
    number: int, code: int, jobs: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    def act(cfg: Any) -> int:
        if cfg.seed == 1:
            with signals.patient():  # as the loop does: noted, saved, stopped
                os.kill(os.getpid(), number)
            return code
        return 0

    ran = jobs(act)
    with signals.install():
        assert go("seed=0,1,2", "trainer.epochs=1") == code
    assert [cfg.seed for cfg in ran] == [0, 1]
    out = capsys.readouterr().out
    assert f"go on    dltrain resume={the_folder()}/1-seed=1\n" in out
    assert "         dltrain seed=2 trainer.epochs=1\n" in out
    assert [row["status"] for row in table()] == ["completed", "interrupted", "waiting"]


def test_a_job_that_is_broken_off_leaves_a_whole_table(jobs: Callable[..., list[Any]]) -> None:
    def act(cfg: Any) -> int:
        os.kill(os.getpid(), signal.SIGINT)  # outside of the loop: broken off
        raise AssertionError("not reached")

    jobs(act)
    with signals.install():
        assert go("seed=0,1") == 130
    assert [row["status"] for row in table()] == ["interrupted", "waiting"]


def test_the_table_is_written_before_the_first_job_ends(jobs: Callable[..., list[Any]]) -> None:
    seen = []
    jobs(lambda cfg: seen.append([row["status"] for row in table()]) or 0)  # type: ignore[func-returns-value]
    go("seed=0,1")
    assert seen == [["running", "waiting"], ["completed", "running"]]


def test_output_names_the_sweeps_folder(jobs: Callable[..., list[Any]]) -> None:
    ran = jobs()
    assert go("seed=0,1", "output=my sweep") == 0
    assert sorted(path.name for path in Path("my sweep").iterdir() if path.is_dir()) == ["0-seed=0", "1-seed=1"]
    assert [cfg.output for cfg in ran] == [None, None]
    assert not Path("outputs").exists()


def test_a_folder_that_cannot_be_made_is_a_mistake_for_the_sweep(jobs: Callable[..., list[Any]]) -> None:
    ran = jobs()
    Path("file").touch()
    with pytest.raises(Mistake, match="cannot be made"):
        go("seed=0,1", "output=file/x")
    assert ran == []


# ---- one mistake: none runs, nothing is made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.lr=0.1,0.2", "trainer.batch_size=8,16", "trainer.micro_batch_size=16"], "job 0 .*micro_batch_size"),
        (["seed=0,1", "schedule.warmup=0.5,3", "trainer.epochs=2"], "job 1 .*schedule.warmup"),
        (["seed=range(-1,1)"], "job 0 .*seed"),
        (["data=digits,folder", "model=mlp"], "job 1 .*data=folder"),
        (["seed=0,1", "hydra/launcher=joblib"], "hydra/launcher=joblib"),
        (["seed=0,1", "hydra/sweeper=optuna"], "hydra/sweeper=optuna"),
        (["seed=0,1", "hydra.sweep.dir=x"], "hydra.sweep.dir"),
        (["seed=0,1", "hydra.sweeper.max_batch_size=1"], "hydra.sweeper.max_batch_size"),
        (["mode=eval", "run=last"], "mode=eval|run=last"),
        (["seed=0,1", "output=a,b"], "one folder"),
    ],
)
def test_one_mistake_and_no_job_runs(
    words: list[str], message: str, jobs: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = jobs()
    monkeypatch.setenv("DLTRAIN_DATA", str(Path("no data").absolute()))
    with pytest.raises(Mistake, match=message):
        go(*words)
    assert ran == []
    assert not Path("outputs").exists()


def test_a_data_set_is_described_once(jobs: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    import dltrain.data

    described = []
    real = dltrain.data.describe
    monkeypatch.setattr(dltrain.data, "describe", lambda cfg, say: described.append(1) or real(cfg, say))
    jobs()
    assert go("optim.lr=0.1,0.2,0.3") == 0
    assert len(described) == 1
