"""trainer.profile: what is written, what is counted, and what happens where there are not enough steps."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch._C._autograd import DeviceType

from dltrain.cli import main
from dltrain.engine import loop, profile
from dltrain.run import all_runs

SMALL = ["model=mlp", "model.widths=[16]", "trainer.batch_size=500", "trainer.threads=1", "device=cpu", "log=quiet"]
SMALL += ["trainer.profile=true"]  # 7 steps an epoch


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0) -> Path:
    assert main([*SMALL, *words]) == code
    return all_runs()[0]


def test_ten_steps_are_traced_and_the_ten_dearest_operations_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """An evaluation comes between the profiled steps: it is not counted."""
    folder = run("trainer.epochs=3")
    captured = capsys.readouterr()
    assert captured.err == ""
    written = (folder / "profile" / "operations.txt").read_text()
    assert written in captured.out
    lines = written.splitlines()
    assert lines[0] == "profile        10 steps after 5 to warm up"
    assert lines[1].split()[-3:] == ["ms", "share", "calls"]
    assert len(lines) == 2 + 10 + 1
    calls = {line.split()[0]: float(line.split()[-1]) for line in lines[2:12]}
    assert calls["addmm"] == 2  # two linear layers, once a step
    trace = json.loads((folder / "profile" / "trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in trace if event.get("ph") == "X"]
    assert names.count(profile.STEP) == names.count(profile.BATCH) == 10
    assert names.count("aten::addmm") > 20, "the evaluation's are in the trace"
    assert sorted(path.name for path in (folder / "profile").iterdir()) == ["operations.txt", "trace.json"]


@pytest.mark.parametrize(("steps", "profiled", "before"), [(1, 1, 0), (7, 7, 0), (12, 10, 2)])
def test_a_shorter_run_profiles_what_it_has_and_says_so(
    steps: int, profiled: int, before: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(f"trainer.steps={steps}")
    shown = capsys.readouterr().out
    few = "" if profiled == 10 else " (the run had no more; 10 are wanted)"
    assert f"profile        {profiled} steps{few} after {before} to warm up" in shown
    names = [event.get("name") for event in json.loads((folder / "profile" / "trace.json").read_text())["traceEvents"]]
    assert names.count(profile.STEP) >= profiled


@pytest.mark.parametrize(("steps", "told"), [(3, "none: the run ended after 3 steps"), (9, "4 steps (the run had")])
def test_a_run_that_is_stopped_tells_what_it_has(
    steps: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(steps, monkeypatch)
    folder = run("trainer.epochs=4", code=130)
    assert f"profile        {told}" in capsys.readouterr().out
    assert (folder / "profile").exists() == (steps > profile.WARM_UP)


def test_a_run_that_fails_leaves_no_profiler_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.train_step

    def failing(*args: Any) -> None:
        if args[1].step == 8:
            raise RuntimeError("in the middle")
        real(*args)

    monkeypatch.setattr(loop, "train_step", failing)
    run("trainer.epochs=2", code=1)
    monkeypatch.setattr(loop, "train_step", real)
    assert (run("trainer.epochs=2") / "profile" / "trace.json").exists()


def test_a_profile_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = profile.Profile._finish

    def finish(self: profile.Profile) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(profile.atomic, "write_text", full)
            real(self)

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile.Profile, "_finish", finish)
    run("trainer.epochs=3")
    shown = capsys.readouterr()
    assert "the profile could not be written" in shown.err
    assert "addmm " in shown.out


def stop_at(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after so many steps."""
    real, made = loop.train_step, []

    def step(*args: Any) -> None:
        real(*args)
        made.append(1)
        if len(made) == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "train_step", step)


def event(name: str, start: float, end: float, own: float, *, gpu: float = 0, device: Any = DeviceType.CPU) -> Any:
    return SimpleNamespace(
        name=name,
        device_type=device,
        time_range=SimpleNamespace(start=start, end=end),
        cpu_time_total=end - start,
        self_cpu_time_total=own,
        self_device_time_total=gpu,
    )


EVENTS = [
    event(profile.STEP, 0, 2000, 500),
    event("aten::mm", 100, 1100, 1000, gpu=300),
    event("aten::add", 1200, 1700, 500, gpu=900),
    event("aten::mm", 2500, 9000, 6500, gpu=9000),  # of an evaluation between the steps
    event(profile.STEP, 10000, 12000, 1000),
    event("aten::mm", 10500, 11500, 1000, gpu=300),
    event("a kernel", 10500, 11500, 0, gpu=300, device=DeviceType.CUDA),  # counted with what started it
]


def test_the_table_by_hand() -> None:
    assert profile.table(EVENTS, 2, on_gpu=False) == [
        "own time a step  CPU ms   share  calls",
        "mm                1.000  50.0 %      1",
        "add               0.250  12.5 %    0.5",
        "a step takes 2.000 ms while it is profiled, 0.750 ms of them between operations",
    ]
    assert profile.table([event("a" * 30, 1, 2, 1), *EVENTS], 2, on_gpu=False, longest=10)[3].startswith("aaaaaaaaa…  ")
    thirds = profile.table([event(profile.STEP, 0, 9, 0), event("aten::mm", 1, 2, 1)], 3, on_gpu=False)
    assert thirds[1].endswith("  0.3")
    assert profile.table(EVENTS, 2, on_gpu=True)[:3] == [
        "own time a step  GPU ms  CPU ms   share  calls",
        "add               0.450   0.250  60.0 %    0.5",
        "mm                0.300   1.000  40.0 %      1",
    ]
