"""A run that goes on after damage, in another place, or for longer, by the command line."""

import json
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from dltrain import checkpoint
from dltrain.cli import main
from dltrain.run import Run, all_runs

# A tenth of a second: 28 steps.
WORDS = ["model=mlp", "model.widths=[4]", "model.dropout=0.5", "schedule=constant"]
WORDS += ["trainer.ema=0.9", "trainer.threads=1", "trainer.batch_size=500", "log=quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`short`, of two epochs, and `long`, of four, which nothing disturbed."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, epochs in (("short", 2), ("long", 4)):
            assert main([*WORDS, f"trainer.epochs={epochs}", f"output={name}"]) == 0
    return place


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Run(Path("short"))


def end_of(folder: str) -> tuple:
    record = Run(Path(folder))
    state = checkpoint.read(record.path / "checkpoints/last.pt")
    best = checkpoint.read(record.path / "checkpoints/best.pt")
    results = record.results()
    kept = {name: results[name] for name in ("status", "metrics", "best", "weights_sha256", "steps", "epochs")}
    return checkpoint.digest(state), best["step"], (record.path / "metrics.csv").read_bytes(), kept


LONGER = ["resume=short", "trainer.epochs=4"]


def test_longer_run_equals_one_that_was_long_from_the_start(here):
    assert main(LONGER) == 0
    assert end_of("short") == end_of("long")


def test_run_with_a_broken_last_goes_on_from_previous_to_the_same_end(here, capsys):
    path = here.path / "checkpoints/last.pt"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    assert main(LONGER) == 0
    assert "last.pt is broken" in capsys.readouterr().out
    assert end_of("short") == end_of("long")


def test_state_with_one_item_changed_does_not_end_the_same(here):
    """The control: one element of the average is moved by one bit."""
    path = here.path / "checkpoints/last.pt"
    state = checkpoint.read(path)
    name = next(name for name in state["ema"] if name.endswith("weight"))
    state["ema"][name].view(torch.int32).flatten()[0] ^= 1
    checkpoint.save(here.path, state, best=False)
    assert main(LONGER) == 0
    assert end_of("short") != end_of("long")


def test_a_length_that_the_run_has_passed_is_a_mistake(here, capsys):
    """Its config would say less than what was trained, and reproduce another run."""
    assert main(LONGER) == 0
    before = (here.path / "config.json").read_bytes()
    assert main([*LONGER[:-1], "trainer.epochs=1"]) == 2
    assert "is at step" in capsys.readouterr().err
    assert (here.path / "config.json").read_bytes() == before


def test_none_left_says_what_to_type_and_that_starts_again(here, capsys):
    for path in (here.path / "checkpoints").iterdir():
        path.unlink()
        path.write_bytes(b"")
    here.write_results(status="interrupted")
    assert main(["resume=short"]) == 1
    told = capsys.readouterr().err
    assert "rm -r short/checkpoints; dltrain resume=short" in told
    assert "go on" not in told  # resume= alone would end here again
    shutil.rmtree(here.path / "checkpoints")
    assert main(LONGER) == 0
    assert end_of("short") == end_of("long")


def test_recorded_threads_are_set_again(here):
    path = here.path / "environment.json"
    record = json.loads(path.read_text())
    assert record["threads"] == 1
    assert main(["resume=short", "trainer.epochs=3"]) == 0
    assert torch.get_num_threads() == 1
    assert json.loads(path.read_text())["threads"] == 1


def test_another_version_is_told_and_kept(here, capsys):
    path = here.path / "environment.json"
    record = json.loads(path.read_text())
    record["versions"]["torch"] = "2.0"
    path.write_text(json.dumps(record))
    assert main(LONGER) == 0
    told = capsys.readouterr()
    assert "not bit-exact" in told.out + told.err
    assert "torch: 2.0" in told.out + told.err
    assert [part["versions"]["torch"] for part in json.loads(path.read_text())["earlier"]] == ["2.0"]


@pytest.mark.parametrize("words", [["model=mlp", "model.dropout=0.1"], ["model=mlp_300_100"], ["model=lenet5"]])
def test_weights_of_another_network_are_told_with_the_words_that_make_it_the_same(here, capsys, words):
    words = [*words, "init=run", "init.source=short", "trainer.epochs=1", "trainer.threads=1", "log=quiet"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "holds another network" in told
    if "model=lenet5" in words:  # its images are of another size: other words would be needed too
        assert "type" not in told
        return
    advice = shlex.split(told.partition("  type     dltrain ")[2].splitlines()[0])
    assert main([*advice, "trainer.dry_run=true"]) == 0
    assert {"model=mlp", "model.widths=[4]", "model.dropout=0.5"} <= set(advice)


def test_completed_run_is_not_resumed(here, capsys):
    assert main(["resume=short"]) == 2
    assert "has completed" in capsys.readouterr().err


def test_read_only_run_can_be_looked_at_and_not_resumed(here, small_disk, capsys, monkeypatch):
    shutil.copytree(here.path, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run = small_disk / "run"
    assert main(["mode=eval", f"run={run}"]) == 0
    assert main(["mode=eval", f"run={run}", "output=found"]) == 0
    assert json.loads(Path("found/results.json").read_text())["metrics"] == here.results()["metrics"]
    capsys.readouterr()
    assert main([f"resume={run}", "trainer.epochs=4"]) == 2
    assert "cannot be written: Read-only file system" in capsys.readouterr().err


def test_full_disk_while_training_is_a_failure_that_can_be_gone_on_from(here, small_disk, capsys):
    run = small_disk / "run"
    shutil.copytree(here.path, run)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1024)):
            pass
    assert main([f"resume={run}", "trainer.epochs=4"]) == 1
    assert f"no space left on the file system {small_disk} (tmpfs)" in capsys.readouterr().err
    assert not list(run.rglob("*.tmp"))
    ballast.unlink()
    assert main([f"resume={run}", "trainer.epochs=4"]) == 0
    assert end_of(str(run)) == end_of("long")
    assert all_runs() == []
