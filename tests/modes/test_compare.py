"""mode=compare at the command line: which runs it takes, what it says of them, and what it never mixes."""

import csv
import functools
import io
import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from dltrain.cli import main
from dltrain.config.complete import complete
from dltrain.config.compose import compose
from dltrain.config.lists import runs_word
from dltrain.config.mode import Compare, Config
from dltrain.config.precheck import precheck
from dltrain.config.spec import DataSpec, Target, spec_to_json
from dltrain.modes.compare_find import find_runs
from dltrain.run import Run

DIGITS = DataSpec(
    name="digits",
    shape=(1, 32, 32),
    target=Target.classes,
    class_names=tuple("0123456789"),
    counts={"train": 3500, "val": 500, "test": 1000},
    mean=(0.1,),
    std=(0.3,),
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@functools.cache
def config(*words: str) -> Config:
    return compose(precheck(list(words)))[0]


def made(path: str | Path, *words: str, accuracy: float | None = 0.9, **more: Any) -> Path:
    """A run folder as a completed run leaves it, without its checkpoints."""
    record = Run(Path(path))
    record.path.mkdir(parents=True)
    record.write_config(config(*words))
    spec = more.pop("spec", DIGITS)
    environment = {"device": "cpu", "threads": 1, "versions": {"torch": more.pop("torch", "2.14.1")}}
    if spec is not None:
        environment["data_spec"] = spec_to_json(spec)
    if "sha256" in more:
        environment["data_sha256"] = {"test": more.pop("sha256")}
    record.write_environment(environment)
    results: dict[str, Any] = {"status": "completed", "seconds": 2.5, "weights_sha256": f"{path}"[-40:]}
    if accuracy is not None:
        results["best"] = {"metric": "val/accuracy", "value": accuracy + 0.01, "epoch": 2, "step": 20}
        results["metrics"] = {"test/accuracy": accuracy, "test/loss": 1 - accuracy}
        record.write_metrics([{"epoch": e, "step": 10 * e, "val/accuracy": accuracy * e / 2} for e in (1, 2)])
    record.write_results(**results | more)
    return record.path


def sweep(folder: str = "outputs/sweeps/2026-11-25/01-00-00") -> dict[str, list[float]]:
    """Two models, three seeds each; the accuracies by model."""
    found = {"mlp": [0.90, 0.92, 0.91], "lenet5": [0.95, 0.96, 0.965]}
    number = 0
    for model, values in found.items():
        for seed, value in enumerate(values):
            name = f"{folder}/{number}-model={model},seed={seed}"
            made(name, f"model={model}", f"seed={seed}", accuracy=value)
            number += 1
    return found


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["mode=compare", *words]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.out if code == 0 else told.err


def table(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"))))


# ---- what is said


def test_a_sweep_is_compared_with_its_paired_difference(capsys: pytest.CaptureFixture[str]) -> None:
    found = sweep()
    text = said(capsys, "runs=outputs/sweeps/2026-11-25/01-00-00")
    test = scipy.stats.ttest_rel(found["lenet5"], found["mlp"]).confidence_interval(0.95)
    lines = [line.split() for line in text.splitlines()]
    assert ["model", "mlp", "lenet5"] in lines
    assert f"{100 * np.mean(found['mlp']):.1f} % ± {100 * np.std(found['mlp'], ddof=1):.1f}" in text
    (row,) = [line for line in text.splitlines() if line.startswith("B  +")]
    assert f"{100 * np.subtract(found['lenet5'], found['mlp']).mean():+.2f} points" in row
    assert f"{100 * test.low:+.2f} to {100 * test.high:+.2f}  3  better" in row
    assert "paired by seed" in text
    assert "6 runs, 2 settings   digits, 1,000 test images" in text
    assert "model.activation" not in text  # what does not differ
    assert not [line for line in text.splitlines() if line.startswith("note")]


@pytest.mark.parametrize(
    "runs",
    [
        "runs=outputs/sweeps",
        "runs=[outputs/sweeps/2026-11-25/01-00-00]",
        "runs=outputs/sweeps/*/*",
        "runs=[outputs/sweeps/*/*/*model=mlp*,outputs/sweeps/*/*/*lenet5*]",
        "runs=outputs",
    ],
)
def test_every_way_to_name_them_finds_the_same_runs(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    sweep()
    text = said(capsys, "runs=outputs/sweeps/2026-11-25/01-00-00")
    assert said(capsys, runs).split("\nnext")[0] == text.split("\nnext")[0]


def test_jobs_come_in_the_order_of_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (10, 9, 2):
        made(f"jobs/{number}-x", "model=mlp", f"model.widths=[{number}]")
    text = said(capsys, "runs=jobs")
    assert [word for line in text.splitlines() if "model.widths" in line for word in line.split()[1:]] == [
        "[2]",
        "[9]",
        "[10]",
    ]


STRANGE = ["a b", "a=b,c=d", "фото#1", "x(1)", "it's", "a,b", "-m", "a]b"]
ONLY_IN_QUOTES = ["[a]", 'quo"te', "null", " lead"]  # what these are without quotes is Hydra's


@pytest.mark.parametrize(
    ("name", "quoted"), [*((name, False) for name in STRANGE), *((name, True) for name in STRANGE + ONLY_IN_QUOTES)]
)
def test_folders_of_any_name_are_found(name: str, quoted: bool, capsys: pytest.CaptureFixture[str]) -> None:
    made(name, "model=mlp")
    made("other", "model=mlp", "model.depth=1")
    text = said(capsys, runs_word([Path(name), Path("other")]) if quoted else f"runs=[{name},other]")
    assert "2 runs, 2 settings" in text
    printed = shlex.split(next(line for line in text.splitlines() if line.startswith("next")))
    cfg = compose(precheck(printed[2:]))[0]  # what is printed can be pasted
    assert isinstance(cfg, Compare)
    assert find_runs(cfg.runs)[0] == [Path(name), Path("other")]
    assert cfg.output == "compared"


def test_one_folder_is_one_word_also_with_commas_and_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a, b", "c"):
        made(f"{name}/1", "seed=1")
        made(f"{name}/2", "seed=2")
    assert "2 runs, 1 setting" in said(capsys, "runs=a, b")
    assert "2 runs, 1 setting" in said(capsys, "runs=c")
    assert "2 runs, 1 setting" in said(capsys, "runs=c/1,c/2")


def test_last_is_the_newest_run(capsys: pytest.CaptureFixture[str]) -> None:
    newest = made("outputs/2026-11-25/02-00-00-mlp-digits", "model=mlp")
    (newest / "checkpoints").mkdir()
    (newest / "checkpoints/last.pt").write_text("")
    made("first", "model=lenet5")
    text = said(capsys, "runs=[first,last]")
    assert "outputs/2026-11-25/02-00-00-mlp-digits" in text
    assert main(["mode=compare", "runs=[last,outputs/2026-11-25/02-00-00-mlp-digits]"]) == 2  # one and the same


def test_settings_without_a_say_do_not_part_what_is_one_setting(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "seed=0", "log=quiet", "trainer.save_every=5min", "data=mnist", "data.root=here")
    made("b", "seed=1", "log.every=3", "trainer.max_time=1h", "data=mnist", "data.root=there", "data.workers=3")
    assert "2 runs, 1 setting" in said(capsys, "runs=[a,b]")
    made("c", "seed=2", "data=mnist", "trainer.batch_size=3")  # the control
    assert "3 runs, 2 settings" in said(capsys, "runs=[a,b,c]")


def test_what_belongs_to_another_model_is_told_only_where_it_says_more(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "model=mlp")
    made("b", "model=lenet5")
    text = said(capsys, "runs=[a,b]")
    assert "model.widths" not in text
    assert "model.pool" not in text
    made("c", "model=mlp", "model.widths=[7]")
    assert "model.widths" in said(capsys, "runs=[c,b]")
    assert "model.widths" in said(capsys, "runs=[a,b,c]")


def test_one_seed_each_claims_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "model=mlp", accuracy=0.9)
    made("b", "model=lenet5", accuracy=0.95)
    text = said(capsys, "runs=[a,b]")
    assert "+5.00 points" in text
    assert "one seed: no spread can be told" in text
    assert "±" not in text


def test_the_first_is_the_reference_and_many_are_said_to_be_many(capsys: pytest.CaptureFixture[str]) -> None:
    for model, lr in (("b", 0.1), ("a", 0.2), ("c", 0.3)):
        for seed in (0, 1, 2):
            made(f"{model}{seed}", f"optim.lr={lr}", f"seed={seed}", accuracy=0.5 + lr * (1 + seed / 10))
    text = said(capsys, "runs=[b0,b1,b2,a0,a1,a2,c0,c1,c2]")
    assert "test accuracy minus A's" in text
    assert ["optim.lr", "0.1", "0.2", "0.3"] in [line.split() for line in text.splitlines()]
    assert "the 2 intervals hold together with 95 %" in text
    turned = said(capsys, "runs=[c0,c1,c2,a0,a1,a2,b0,b1,b2]")
    assert ["optim.lr", "0.3", "0.2", "0.1"] in [line.split() for line in turned.splitlines()]


# ---- what is never mixed


def test_runs_that_did_not_complete_are_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    Run(Path("s/1-model=mlp,seed=1")).write_results(status="failed")
    Run(Path("s/4-model=lenet5,seed=1")).write_results(status="interrupted", metrics={}, best=None)
    Run(Path("s/5-model=lenet5,seed=2")).write_results(status="running")
    text = said(capsys, "runs=s")
    assert "s/1-model=mlp,seed=1 is failed, and takes no part in means: dltrain resume=s/1-model=mlp,seed=1" in text
    assert "s/4-model=lenet5,seed=1 is interrupted" in text
    assert "s/5-model=lenet5,seed=2 is killed" in text  # no process has it
    assert "2 of 3" in text
    assert "1 of 3" in text
    assert f"{100 * 0.905:.1f} %" in text
    assert "one seed: no spread can be told" in text


def test_nothing_completed_has_no_means(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "model=mlp", accuracy=None, status="failed")
    made("b", "model=lenet5", accuracy=None, status="running", spec=None)
    text = said(capsys, "runs=[a,b]", "output=c")
    assert "points" not in text
    assert Path("c/compare.png").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": {"counts": {"train": 3500, "val": 500, "test": 999}}}, "another test set: 999 images of digits"),
        ({"spec": {"class_names": tuple("abcdefghij")}}, "another set of classes"),
        ({"spec": {"name": "mnist"}}, "another test set: 1,000 images of mnist"),
        ({"sha256": "b" * 64}, "other images in the test set"),
        ({"spec": None}, "what data it saw is not recorded"),
    ],
)
def test_other_test_data_are_named_and_not_compared(
    change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(change.get("spec"), dict):
        change = {"spec": replace(DIGITS, **change["spec"])}
    for seed in (0, 1):
        made(f"a{seed}", "model=mlp", f"seed={seed}", sha256="a" * 64)
        made(f"b{seed}", "model=lenet5", f"seed={seed}", **change)
        made(f"c{seed}", "model=mlp", "model.depth=1", f"seed={seed}", accuracy=0.8 + seed / 9, sha256="a" * 64)
    text = said(capsys, "runs=[a0,a1,b0,b1,c0,c1]")
    assert words in text
    assert "the 2 intervals" not in text
    (b,) = [line for line in text.splitlines() if line.startswith("B") and words in line]
    assert "points" not in b
    assert [line for line in text.splitlines() if line.startswith("C") and "points" in line]


def test_seeds_on_other_data_are_no_seeds_of_one_setting(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "seed=0")
    made("b", "seed=1", spec=replace(DIGITS, counts={"train": 1, "val": 1, "test": 7}))
    text = said(capsys, "runs=[a,b]")
    assert "2 settings" in text
    assert ["test", "images", "1,000", "7"] in [line.split() for line in text.splitlines()]
    made("c", "seed=2", "data=folder", "data.root=one")
    made("d", "seed=3", "data=folder", "data.root=two")  # images of one's own may be others below another root
    assert "2 settings" in said(capsys, "runs=[c,d]")


def test_a_seed_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "seed=0", accuracy=None, status="interrupted")
    made("b", "seed=0", weights_sha256="x")
    made("c", "seed=0", weights_sha256="x")
    made("d", "seed=1")
    text = said(capsys, "runs=[a,b,c,d]")
    assert "2 runs, 1 setting" in text
    assert "c has the setting and seed of b and is left out (the same weights)" in text
    assert "a has the setting and seed of b and is left out (other weights)" in text


def test_other_versions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "seed=0")
    made("b", "seed=1", torch="2.11.0")
    assert "note     not made alike: torch 2.14.1, 2.11.0" in said(capsys, "runs=[a,b]")


def test_other_tasks_share_no_metric(capsys: pytest.CaptureFixture[str]) -> None:
    made("a", "model=mlp")
    best = {"metric": "-val/loss", "value": 0.4, "epoch": 1, "step": 1}
    made("b", "model=lenet5", accuracy=None, best=best, metrics={"test/loss": 0.5, "test/mae": 0.1})
    assert "no test accuracy" in said(capsys, "runs=[a,b]")


# ---- files


def test_output_holds_tables_and_a_plot(capsys: pytest.CaptureFixture[str]) -> None:
    found = sweep("s")
    text = said(capsys, "runs=s", "output=made/here")
    assert "written  made/here   compare.png, runs.csv, settings.csv, differences.csv" in text
    assert sorted(path.name for path in Path("made/here").iterdir()) == [
        "compare.png",
        "differences.csv",
        "runs.csv",
        "settings.csv",
    ]
    rows = table("made/here/runs.csv")
    assert [float(row["test/accuracy"]) for row in rows] == found["mlp"] + found["lenet5"]
    assert {row["setting"] for row in rows if row["model"] == "lenet5"} == {"B"}
    with Image.open("made/here/compare.png") as image:
        assert image.size[0] > 1000
    assert said(capsys, "runs=s", "output=made/here")  # again, over the same files
    assert {row["metric"] for row in table("made/here/differences.csv")} == {
        "val/accuracy",
        "test/accuracy",
        "test/loss",
    }


def test_nothing_is_written_without_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    text = said(capsys, "runs=s")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    line = next(line for line in text.splitlines() if line.startswith("next"))
    assert main(shlex.split(line)[2:]) == 0
    assert Path("compared/compare.png").is_file()


def test_an_output_that_cannot_be_written_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    Path("file").write_text("")
    assert "output=file cannot be written" in said(capsys, "runs=s", "output=file", code=2)


# ---- rubbish


RUBBISH = {
    "results.json": [
        '{"status": "completed", "metrics": {"test/accuracy": "0.9"}, "best": {"metric": 3}}',
        '{"status": "completed", "metrics": {"test/accuracy": NaN, "x": [1]}, "best": [], "seconds": "x"}',
        '{"status": "completed", "metrics": {"test/accuracy": 1e999}, "best": {"metric": "val/accuracy"}}',
        '{"status": "completed", "metrics": {"\\u001b[31m/\\n": 1' + "0" * 400 + '}, "best": {"value": true}}',
        '{"status": "completed", "metrics": {}, "best": {"metric": "val/accuracy", "value": 1e200, "epoch": {}}}',
        '{"status": "completed", "metrics": {}, "seconds": 1e308, "weights_sha256": [1], "steps": null}',
    ],
    "environment.json": ['{"versions": 3, "data_sha256": [], "device": {"a": "\\u001b"}}', "{}"],
    "metrics.csv": ["epoch,val/accuracy\n1,nan\n2,inf\n,3\n", "epoch\n", "", "epoch,step\nx,y\n"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in RUBBISH.items() for text in texts])
def test_rubbish_in_a_run_is_no_number(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    Path("s/0-model=mlp,seed=0", name).write_text(text)
    told = said(capsys, "runs=s", "output=out")
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) < 400


UNREADABLE = {
    "config.json": ["", "{}", "[" * 100_000, '{"mode": "train", "_target_": "os.system"}'],
    "results.json": ["[]", '{"status": "done"}', "x" * 9_000_000],
    "environment.json": ["3", '{"data_spec": 3}'],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in UNREADABLE.items() for text in texts])
def test_a_run_that_cannot_be_read_is_named(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    Path("s/0-model=mlp,seed=0", name).write_text(text)
    told = said(capsys, "runs=s")
    assert "s/0-model=mlp,seed=0 is left out: " in told
    assert "5 runs, 2 settings" in told
    two = ["runs=[" + ",".join(f"'s/{n}-model=mlp,seed={n}'" for n in (0, 1)) + "]"]
    assert "1 of 2 runs can be read" in said(capsys, *two, code=2)


def test_links_and_depths_lead_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    Path("s/round").symlink_to(Path("s").resolve())
    made("s/a/b/c/d/e", "seed=7")  # deeper than runs lie
    assert "6 runs" in said(capsys, "runs=s")


# ---- mistakes


@pytest.mark.parametrize(
    ("words", "parts", "offer"),
    [
        ([], ["mode=compare needs runs", "runs=[RUN,RUN,…]"], "mode=compare runs=outputs/sweeps/2026-11-25/01-00-00"),
        (["runs="], ["mode=compare needs runs"], "mode=compare runs=outputs/sweeps/2026-11-25/01-00-00"),
        (["runs=[]"], ["mode=compare needs runs"], None),
        (["runs=one"], ["one is one run"], None),
        (["runs=[one,one]"], ["one is named twice"], None),
        (["runs=[one,./one]"], ["named twice"], None),
        (["runs=[one,oen]"], ["runs=oen is not there", "nearest  one"], "mode=compare 'runs=[one,one]'"),
        (["runs=nowhere"], ["runs=nowhere is not there"], None),
        (["runs=[one,empty]"], ["runs=empty has no config.json"], None),
        (["runs=none*"], ["no run matches"], None),
        (["runs=[one,two]", "model=mlp"], ["model has no say in mode=compare"], "mode=compare 'runs=[one,two]'"),
        (["runs=[one,two]", "trainer.epochs=3"], ["no say"], "mode=compare 'runs=[one,two]'"),
        (["runs=[one,two]", "seed=3"], ["no say"], "mode=compare 'runs=[one,two]'"),
        (["runs=one", "runs=two"], ["runs are one list"], "mode=compare 'runs=[one,two]'"),
        (["runs=[one,", "two]"], ["no space may stand in a list"], "mode=compare 'runs=[one,two]'"),
        (["runs=one", "two", "output=x"], ["runs are one list"], "mode=compare 'runs=[one,two]' output=x"),
        (["one", "two"], ["runs are one list"], "mode=compare 'runs=[one,two]'"),
    ],
)
def test_mistakes(words: list[str], parts: list[str], offer: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    sweep()
    made("one", "model=mlp")
    made("two", "model=lenet5")
    Path("empty").mkdir()
    before = sorted(Path().rglob("*"))
    text = said(capsys, *words, code=2)
    assert [part for part in parts if part not in text] == []
    assert sorted(Path().rglob("*")) == before
    offers = [line.removeprefix("  type     ") for line in text.splitlines() if line.startswith("  type     ")]
    if offer is not None:
        assert offers == [f"dltrain {offer}"]
    for line in offers:
        if "one,one" not in line:  # the nearest name may be one that stands there already
            assert main(shlex.split(line)[1:]) == 0


def test_what_a_shell_makes_of_a_pattern_is_put_right(capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    Path("s/sweep.csv").write_text("")
    names = sorted(str(path) for path in Path("s").iterdir())
    for words in (["mode=compare", *names], ["compare", *names], ["mode=compare", f"runs={names[0]}", *names[1:]]):
        assert main(words) == 2
        offer = capsys.readouterr().err.splitlines()[-1].removeprefix("  type     ")
        assert main(shlex.split(offer)[1:]) == 0
        assert "6 runs, 2 settings" in capsys.readouterr().out


def test_a_sweep_over_comparisons_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sweep("s")
    assert main(["-m", "mode=compare", "runs=s,outputs"]) == 2
    assert "makes no runs" in capsys.readouterr().err


def test_more_runs_than_anyone_reads_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep("s")
    monkeypatch.setattr("dltrain.modes.compare_find.MOST_RUNS", 5)
    assert "more than 5 runs" in said(capsys, "runs=s", code=2)


# ---- completion, speed


def test_runs_are_completed_one_by_one() -> None:
    sweep()
    jobs = [f"outputs/sweeps/2026-11-25/01-00-00/{n}-model=mlp,seed={n}" for n in (0, 1)]
    assert f"runs=[{jobs[0]}" in complete(["mode=compare", "runs=["])
    assert "runs=[last" in complete(["mode=compare", "runs=[la"])
    assert f"runs=[{jobs[0]},{jobs[1]}" in complete(["mode=compare", f"runs=[{jobs[0]},outputs/sweeps/2026-11-25/01"])
    assert f"runs=[last,{jobs[1]}" in complete(["mode=compare", f"runs=[last,{jobs[1][:-5]}"])
    assert f"runs={jobs[0]}" in complete(["mode=compare", "runs=outputs/sw"])
    assert complete(["mode=compare", "ru"]) == ["runs="]


def test_no_torch_and_no_matplotlib_and_fast() -> None:
    sweep("s")
    program = """
import sys
from dltrain.cli import main
assert main(["mode=compare", "runs=s"]) == 0
assert not {"torch", "matplotlib"} & set(sys.modules)
assert main(["mode=compare", "runs=s", "output=o"]) == 0
assert "torch" not in sys.modules and "matplotlib" in sys.modules
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 20


def test_real_runs_are_compared_as_the_sweep_told(capsys: pytest.CaptureFixture[str]) -> None:
    """End to end: the sweep's last line, pasted, shows the sweep's own means."""
    words = ["model=mlp", "model.widths=[8]", "optim.lr=0.003,0.03", "seed=0,1", "trainer.steps=6"]
    assert main(["-m", *words, "trainer.batch_size=512", "trainer.threads=1", "log=quiet"]) == 0
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if line.startswith("next"))
    assert shlex.split(line)[2] == "mode=compare"
    assert main(shlex.split(line)[2:]) == 0
    text = capsys.readouterr().out
    assert ["optim.lr", "0.003", "0.03"] in [one.split() for one in text.splitlines()]
    means = [one for one in told[told.index("mean ±") :].splitlines() if one.startswith("0.0")]
    assert len(means) == 2
    for one in means:
        for cell in [part.strip() for part in one.split("  ") if "±" in part]:
            assert cell in text
    results = [json.loads(path.read_text()) for path in sorted(Path("outputs").rglob("results.json"))]
    assert len(results) == 4
    difference = np.diff(np.reshape([one["metrics"]["test/accuracy"] for one in results], (2, 2)), axis=0)
    assert f"{100 * difference.mean():+.2f} points" in text
