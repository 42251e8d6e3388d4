"""Run folders: claimed once, found by name or as the last one, read back without trust."""

import json
import math
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dltrain import lock, run
from dltrain.config import data, groups, mode, model, saved
from dltrain.config.messages import Mistake
from dltrain.run import Run, all_runs, claim, find

DESIGN_KEYS = ["status", "metrics", "best", "parameters", "weights_sha256", "steps", "epochs", "seconds"]
DESIGN_KEYS += ["images_per_second", "peak_memory_bytes", "device", "precision", "seed"]


def config() -> mode.Train:
    return mode.Train(
        model=model.MLP(),
        data=data.Digits(),
        task=groups.Classification(),
        reg=groups.Reg(),
        clip=groups.ClipNorm(),
        optim=groups.Sgd(),
        schedule=groups.Constant(),
        precision=groups.Precision(),
        trainer=groups.Trainer(),
        log=groups.Log(),
        init=groups.Scratch(),
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(path: str, status: str = "completed", checkpoint: bool = True) -> Path:
    folder = Path("outputs") / path
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    Run(folder).write_results(status=status)
    if checkpoint:
        (folder / "checkpoints" / "last.pt").write_text("")
    return folder


# ---- claim


@pytest.mark.parametrize("text", ["", ".", "..", "/", "a/.."])
def test_claim_of_a_folder_without_a_name_of_its_own_is_a_mistake(here, capsys, text):
    """Nothing can be put behind it, and `..-2` is nobody's wish."""
    before = sorted(Path.cwd().parent.rglob("*"))
    with pytest.raises(Mistake, match="names no new folder"):
        claim(Path(text))
    assert sorted(Path.cwd().parent.rglob("*")) == before


def test_claim_never_gives_one_folder_twice(here):
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim(Path("outputs/2026-11-24/21-10-27-mlp-digits")), range(40)))
    assert len(set(claimed)) == 40
    assert {path.name for path in claimed} == {"21-10-27-mlp-digits"} | {
        f"21-10-27-mlp-digits-{n}" for n in range(2, 41)
    }


# ---- results.json


def test_results_have_every_key_from_the_first_second(here):
    record = Run(make("a/b"))
    record.write_results(status="running")
    written = json.loads((record.path / "results.json").read_text())
    assert list(written) == DESIGN_KEYS
    assert written.pop("status") == "running"
    assert written.pop("metrics") == {}
    assert set(written.values()) == {None}
    record.write_results(steps=3, metrics={"test/accuracy": 0.1})
    record.write_results(status="completed")
    assert record.results()["steps"] == 3
    assert record.results()["metrics"] == {"test/accuracy": 0.1}
    with pytest.raises(ValueError, match="stesp"):
        record.write_results(stesp=3)
    with pytest.raises(ValueError, match="done"):
        record.write_results(status="done")


def test_results_of_a_new_run_do_not_share_state(here):
    record = Run(here)
    record.results()["metrics"]["x"] = 1
    assert Run(here).results()["metrics"] == {}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "{" * 100_000, '{"status": "done", "metrics": {}}', '{"status": "failed", "metrics": 1}'],
)
def test_results_that_are_not_ours_are_a_mistake_and_count_as_unfinished(here, content):
    record = Run(make("a/b"))
    (record.path / "results.json").write_text(content)
    with pytest.raises(Mistake):
        record.results()
    assert record.status == "running"


def test_huge_file_is_refused_unread(here):
    record = Run(make("a/b"))
    with (record.path / "results.json").open("wb") as file:
        file.truncate(run.MAX_JSON * 100)
    with pytest.raises(Mistake, match="larger"):
        record.results()


def test_pipe_in_place_of_a_file_does_not_hang(here):
    record = Run(make("a/b"))
    (record.path / "config.json").unlink()
    os.mkfifo(record.path / "config.json")
    with pytest.raises(Mistake):
        record.read_config()
    with pytest.raises(Mistake):
        find("outputs/a/b", "run")


# ---- metrics.csv


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_every_bit_of_a_float_survives_metrics_csv(here):
    record = Run(here)
    values = [0.1, 1 / 3, math.pi * 1e-300, 5e-324, -0.0, 1e22, float("inf"), -float("inf"), 123456789.123456789]
    rows = [{"epoch": i + 1, "step": 10 * i, "train/loss": value} for i, value in enumerate(values)]
    record.write_metrics(rows)
    read = record.read_metrics()
    assert [bits(row["train/loss"]) for row in read] == [bits(value) for value in values]
    assert [type(row["epoch"]) for row in read] == [int] * len(values)
    record.write_metrics(read)
    assert record.read_metrics() == read
    # the control: six digits, as a %g would write them, would not do
    assert bits(float(f"{1 / 3:g}")) != bits(1 / 3)


def test_not_a_number_survives(here):
    Run(here).write_metrics([{"epoch": 1, "step": 1, "val/loss": float("nan")}])
    assert math.isnan(Run(here).read_metrics()[0]["val/loss"])


def test_header_is_the_union_of_all_rows_in_a_fixed_order(here):
    rows = [
        {"epoch": 1, "step": 3, "train/loss": 1.5, "train/lr": 0.1},
        {"step": 6, "epoch": 2, "val/accuracy": 0.5, "train/loss": 1.25, "val/a,b": 1.0},
    ]
    Run(here).write_metrics(rows)
    assert (here / "metrics.csv").read_text() == (
        'epoch,step,train/loss,train/lr,val/accuracy,"val/a,b"\n1,3,1.5,0.1,,\n2,6,1.25,,0.5,1.0\n'
    )
    assert Run(here).read_metrics() == [dict(sorted(row.items())) for row in rows]
    Run(here).write_metrics([])
    assert (here / "metrics.csv").read_text() == "epoch,step\n"
    assert Run(here).read_metrics() == []


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_only_numbers_go_into_metrics(here, value):
    with pytest.raises(TypeError):
        Run(here).write_metrics([{"epoch": 1, "step": 1, "x": value}])


@pytest.mark.parametrize("content", ["epoch,step\n1,2,3\n", "epoch,step\n1,x\n", "epoch\n" + "9" * 5000 + "x\n"])
def test_metrics_that_are_not_ours_are_a_mistake(here, content):
    (here / "metrics.csv").write_text(content)
    with pytest.raises(Mistake):
        Run(here).read_metrics()


# ---- config.json, environment.json


def test_config_comes_back_equal(here):
    record = Run(make("a/b"))
    record.write_config(config())
    assert record.read_config() == config()
    (record.path / "config.json").write_text(" " * (saved.MAX_BYTES + 1))
    with pytest.raises(Mistake, match="larger"):
        record.read_config()


# ---- finding


def test_runs_are_newest_first_sweeps_included(here):
    order = [
        "2026-11-25/08-00-00-mlp-digits",
        "2026-11-24/21-10-27-mlp-digits-10",
        "2026-11-24/21-10-27-mlp-digits-2",
        "2026-11-24/21-10-27-mlp-digits",
        "sweeps/2026-11-24/20-00-00/10-seed=3",
        "sweeps/2026-11-24/20-00-00/9-seed=2",
        "2026-11-24/19-59-59-lenet5-digits",
        "sweeps/2026-11-23/20-00-00/0-seed=0",
    ]
    for name in sorted(order):
        make(name)
    (here / "outputs/2026-11-26/not-a-run").mkdir(parents=True)
    assert [str(path) for path in all_runs()] == [f"outputs/{name}" for name in order]


def test_last_is_the_newest_with_a_checkpoint_or_unfinished(here):
    make("2026-11-24/10-00-00-a-b", "interrupted")
    make("2026-11-24/11-00-00-a-b")
    make("2026-11-24/12-00-00-a-b", "failed", checkpoint=False)
    assert find("last", "run").name == "11-00-00-a-b"
    assert find("last", "resume", unfinished=True).name == "12-00-00-a-b"
    Run(Path("outputs/2026-11-24/12-00-00-a-b")).write_results(status="completed")
    assert find("last", "resume", unfinished=True).name == "10-00-00-a-b"


def test_killed_run_still_says_running_and_counts_as_unfinished(here):
    folder = make("2026-11-24/10-00-00-a-b", "running", checkpoint=False)
    assert find("last", "resume", unfinished=True) == folder
    assert find(str(folder), "resume", unfinished=True) == folder


def test_run_that_is_being_written_is_not_resumed(here):
    older = make("2026-11-24/09-00-00-a-b", "interrupted")
    folder = make("2026-11-24/10-00-00-a-b", "running")
    with lock.hold(folder):
        assert find("last", "resume", unfinished=True) == older
        with pytest.raises(Mistake, match="being written by process"):
            find(str(folder), "resume", unfinished=True)
        assert find(str(folder), "run") == folder  # to look at it is no harm


def test_completed_run_is_not_resumed_unless_made_longer(here):
    folder = make("2026-11-24/10-00-00-a-b")
    with pytest.raises(Mistake, match="has completed") as caught:
        find(str(folder), "resume", unfinished=True)
    assert "init=run" in caught.value.type_this
    assert find(str(folder), "resume", unfinished=True, longer=True) == folder
    with pytest.raises(Mistake, match="completed or is running"):
        find("last", "resume", unfinished=True)


def test_what_is_no_run_is_a_mistake_with_the_newest_and_the_nearest(here):
    with pytest.raises(Mistake, match="no run below outputs/"):
        find("last", "run")
    for hour in range(10, 15):
        make(f"2026-11-24/{hour}-00-00-mlp-digits")
    with pytest.raises(Mistake) as caught:
        find("outputs/2026-11-24/12-00-00-mlp-digit", "run")
    assert caught.value.nearest == "outputs/2026-11-24/12-00-00-mlp-digits"
    assert caught.value.type_this == "run=outputs/2026-11-24/12-00-00-mlp-digits"
    assert "outputs/2026-11-24/14-00-00-mlp-digits, outputs/2026-11-24/13-" in caught.value.allowed
    with pytest.raises(Mistake) as caught:
        find("13-00-00-mlp-digits", "init.source")
    assert caught.value.what.startswith("init.source=13-00-00-mlp-digits is not there")
    assert caught.value.nearest == "outputs/2026-11-24/13-00-00-mlp-digits"
    with pytest.raises(Mistake, match=r"has no config\.json") as caught:
        find("outputs/2026-11-24", "run")
    assert caught.value.nearest == "outputs/2026-11-24/14-00-00-mlp-digits"


@pytest.mark.parametrize("text", ["", "\0", "x" * 5000, "~nobody/x", "a\nb", "/dev/null", "outputs/[red]"])
def test_odd_words_for_a_run_are_mistakes(here, text):
    with pytest.raises(Mistake):
        find(text, "run")


def test_lock_clears_what_a_killed_owner_left(here):
    folder = make("2026-11-24/10-00-00-a-b", "running")
    for place in (folder, folder / "checkpoints"):
        (place / ".last.pt.00.tmp").write_text("half")
    with Run(folder).lock():
        assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("place", ["tensorboard", "run.log", "tensorboard/val", "checkpoints/last.pt"])
@pytest.mark.parametrize("text", ["last", "folder"])
def test_a_run_that_would_be_written_through_a_link_is_refused(here, place, text):
    path = make("2026-11-24/10-00-00-a-b", "interrupted")
    assert find(str(path), "resume", unfinished=True) == path
    link = path / place
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(here / "elsewhere")
    with pytest.raises(Mistake, match="is a link"):
        find("last" if text == "last" else str(path), "resume", unfinished=True)
