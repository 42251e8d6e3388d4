"""trainer.profile=true: where the time of ten training steps goes."""

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from dltrain import atomic
from dltrain.config.messages import Failure
from dltrain.report import Report
from dltrain.report.table import columns, near, percent

WARM_UP, ACTIVE, SHOWN = 5, 10, 10  # steps before, steps profiled, operations shown
BATCH, STEP = "make the batch", "training step"  # what counts; an evaluation between two steps is in the trace alone


class Profile(AbstractContextManager["Profile"]):
    """Up to ten steps under torch's profiler, then `profile/trace.json`, `profile/operations.txt` and a table."""

    def __init__(self, folder: Path, device: torch.device, steps_left: int, report: Report) -> None:
        """`folder` is the run's; in a run of fewer steps than are wanted the last of them are profiled."""
        self.folder = folder / "profile"
        self.report = report
        self.steps = 0
        self.active = min(ACTIVE, steps_left)
        self.warm_up = min(WARM_UP, steps_left - self.active)
        self.on_gpu = device.type == "cuda"
        self._profiler: profile | None = None
        if self.active:
            # libkineto tells of its starts, and of every machine that has no GPU, on standard error
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
            activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self.on_gpu else [])
            plan = schedule(wait=0, warmup=self.warm_up, active=self.active, repeat=1) if self.warm_up else None
            self._profiler = profile(activities=activities, schedule=plan)
            self._profiler.start()

    def advance(self) -> None:
        """A step has been made; after the last one that counts, tell what was found."""
        if self._profiler is None:
            return
        self.steps += 1
        if self.steps < self.warm_up + self.active:
            self._profiler.step()
        else:
            self._finish()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._profiler is None:
            return
        if kind is None and self.steps > self.warm_up:
            self._finish()
            return
        self._profiler.stop()
        self._profiler = None
        if kind is None:
            self.report.note(f"profile        none: the run ended after {self.steps} steps, all to warm up")

    def _finish(self) -> None:
        profiler, self._profiler = self._profiler, None
        assert profiler is not None
        profiler.stop()
        events: Any = profiler.events()  # type: ignore[no-untyped-call]
        steps = self.steps - self.warm_up
        few = "" if steps == ACTIVE else f" (the run had no more; {ACTIVE} are wanted)"
        head = f"profile        {steps} steps{few} after {self.warm_up} to warm up"
        screen = self.report.screen
        room = screen.columns - (33 if self.on_gpu else 25)  # beside the numbers
        shown = table(events, steps, self.on_gpu, longest=room if screen.live else None)
        try:
            self.folder.mkdir(exist_ok=True)
            text = "\n".join([head, *table(events, steps, self.on_gpu)])
            atomic.write_text(self.folder / "operations.txt", text + "\n")
            with atomic.replacing(self.folder / "trace.json", 0) as temporary:
                profiler.export_chrome_trace(str(temporary))
            shown.append(f"trace          {near(self.folder / 'trace.json')}, for https://ui.perfetto.dev")
        except (OSError, Failure) as failure:
            screen.warn(f"the profile could not be written: {failure}")
        for line in [head, *shown]:
            self.report.note(line)


def measured(profiled: Profile | None, part: str) -> AbstractContextManager[Any]:
    """What is done inside counts as `part` of a step."""
    return nullcontext() if profiled is None else record_function(part)


def table(events: Iterable[Any], steps: int, on_gpu: bool, longest: int | None = None) -> list[str]:
    """The dearest operations within the steps, by their own time, without that of the operations they call.

    `longest` are the columns that a name may take.
    """
    operations = [event for event in events if event.device_type == DeviceType.CPU]
    parts = [event for event in operations if event.name in (BATCH, STEP)]
    times: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])  # microseconds of CPU and GPU, calls
    for event in operations:
        if any(p.time_range.start <= event.time_range.start < p.time_range.end and event is not p for p in parts):
            found = times[event.name]
            found[0] += event.self_cpu_time_total
            found[1] += event.self_device_time_total
            found[2] += 1
    by = 1 if on_gpu else 0
    step, own = sum(part.cpu_time_total for part in parts), sum(part.self_cpu_time_total for part in parts)
    whole = sum(found[1] for found in times.values()) if on_gpu else step
    rows = []
    for name, found in sorted(times.items(), key=lambda item: -item[1][by])[:SHOWN]:
        milliseconds = [f"{value / 1000 / steps:.3f}" for value in ([found[1], found[0]] if on_gpu else [found[0]])]
        name = name.replace("autograd::engine::evaluate_function: ", "backward: ").removeprefix("aten::")
        if longest is not None and len(name) > max(longest, 8):
            name = f"{name[: max(longest, 8) - 1]}…"
        rows.append(
            [name, *milliseconds, percent(found[by] / (whole or 1.0)), f"{found[2] / steps:.1f}".removesuffix(".0")]
        )
    head = ["own time a step", *(["GPU ms"] if on_gpu else []), "CPU ms", "share", "calls"]
    spent = f"{step / 1000 / steps:.3f} ms while it is profiled, {own / 1000 / steps:.3f} ms of them between operations"
    return [*columns(head, rows, right=range(1, len(head))), f"a step takes {spent}"]
