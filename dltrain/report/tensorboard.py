"""What TensorBoard shows of a run: scalars, pictures, text, histograms, and the settings beside those of other runs.

Training, validation and test are three runs to TensorBoard (`tensorboard/`, `tensorboard/val/`, `tensorboard/test/`)
that use the same tags, so that each thing has one chart with a line for each. `torch.utils.tensorboard` is not used: it
writes from a thread of its own, from where no error reaches the loop.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from dltrain.config import saved
from dltrain.config.messages import command
from dltrain.config.mode import Config
from dltrain.report import events, summaries
from dltrain.report.clock import Clock
from dltrain.report.table import near
from dltrain.report.terminal import Screen, safe

if TYPE_CHECKING:
    from torch import Tensor

    from dltrain.environment import Environment

OPTIM = {"lr", "grad_norm", "clipped", "skipped", "penalty"}
AT_THE_END = ("test", "best")  # what is written once a run has ended, and again if it goes on
BEST = "Best "  # `metric/Best accuracy`: the table of runs shows what sorts first, capital letters before others


def tag_of(name: str) -> tuple[str, str]:
    """(split, tag) of a scalar: `train/generator/grad_norm` is `optim/generator/grad_norm` of `train`.

    What has a value for each class or layer stands behind the rest: `metric_detail/class_accuracy/<class>`,
    `optim_detail/grad_norm/<layer>`.
    """
    split, _, rest = safe(name).partition("/")
    parts = rest.split("/")
    if "grad_norm" in parts[:-1]:
        return split, f"optim_detail/{rest}"
    if split != "train" and len(parts) > 1:
        return split, f"metric_detail/{rest}"
    group = "optim" if parts[-1] in OPTIM else "loss" if parts[-1].endswith("loss") else "metric"
    return split, f"{group}/{rest}"


class TensorBoard:
    """One run's event files. A folder that cannot be written is told once, and costs the run nothing else."""

    def __init__(self, folder: Path, cfg: Config, screen: Screen, step: int) -> None:
        """A run that goes on from `step` leaves nothing from beyond it, and nothing of its end, which comes again."""
        self._cfg, self._screen, self._folder = cfg, screen, folder
        self._files = {"train": events.EventFile(folder)}
        self._files |= {split: events.EventFile(folder / split) for split in ("val", *AT_THE_END)}
        self._failed = False
        self._has_head = False
        self._environment: dict[str, Any] = {}
        self._before = (0, 0.0, time.monotonic())  # images, seconds of training and of all, at the last point
        if folder.exists():
            with self._careful():
                self._go_on(step)

    def _go_on(self, step: int) -> None:
        train = events.newest(self._folder)
        self._has_head = train is not None and any(_is_head(event) for event in events.read(train))

        def change(event: Any) -> Any:
            if _is_head(event):  # the run may be longer now than it was to be
                return self._renewed(event)
            # at step 0 it begins anew
            return event if 0 < step >= event.step and not _is_of_the_end(event) else None

        for split, file in self._files.items():
            if self._has_head and split not in AT_THE_END:
                events.cut(file.folder, change)
            else:
                events.remove(file.folder)

    @contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            for file in self._files.values():
                with suppress(OSError):
                    file.close()
            why = error.strerror or str(error)
            self._screen.warn(f"{near(self._folder)}: {why}; the run goes on, but TensorBoard gets no more of it")

    def _write(self, split: str, step: int, values: list[Any]) -> None:
        """One event with these values; before the first of all, what the run is."""
        if self._failed:
            return
        now = time.time()
        with self._careful():
            if not self._has_head:
                self._has_head = True
                self._files["train"].write([summaries.event(0, now, self._head(now))])
            self._files[split].write([summaries.event(step, now, values)])

    # ---- what the run is

    def banner(self, parameters: int, environment: "Environment") -> None:
        """What will run; written with the first event."""
        e = environment
        self._environment = {
            "parameters": parameters,
            **{name: str(getattr(e, name)) for name in ("device", "precision", "threads", "determinism", "loader")},
            "reasons": e.reasons,
            "versions": e.versions,
        }

    def _head(self, now: float) -> list[Any]:
        return [
            summaries.text("command", command(self._screen.typed)),
            summaries.text("environment", summaries.outline(self._environment)),
            *self._settings(now),
        ]

    def _settings(self, now: float) -> list[Any]:
        """Every setting, as text and for the table of runs."""
        tree, run = saved.to_json(self._cfg), self._folder.parent
        name = f"{run.name}  in {near(run.parent)}"
        return [summaries.text("config", summaries.outline(tree)), summaries.settings(name, tree, now)]

    def _renewed(self, head: Any) -> Any:
        """What was told of the run at its start, with the settings of now."""
        new = self._settings(head.wall_time)
        tags = [value.tag for value in new]
        old = [value for value in head.summary.value if value.tag not in tags]
        return summaries.event(0, head.wall_time, [*old, *new])

    # ---- while training

    def step(self, step: int, scalars: Mapping[str, float], clock: Clock) -> None:
        """A point of the training curves; speed is over the steps since the last point, without evaluation."""
        now = (clock.images, clock.seconds, time.monotonic())
        images, seconds, whole = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        values = [summaries.scalar(tag_of(name)[1], value) for name, value in scalars.items()]
        if seconds > 0 and whole > 0:
            values.append(summaries.scalar("time/images_per_second", images / seconds))
            # evaluation, saving, drawing
            values.append(summaries.scalar("time/share_outside_steps", max(0.0, 1 - seconds / whole)))
        self._write("train", step, values)

    def epoch(self, row: Mapping[str, float]) -> None:
        """The validation of an epoch, if it had one."""
        self._evaluation("val", int(row["step"]), row)

    def _evaluation(self, split: str, step: int, metrics: Mapping[str, float]) -> None:
        found = [(tag_of(name)[1], value) for name, value in metrics.items() if name.startswith(f"{split}/")]
        if found:
            self._write(split, step, [summaries.scalar(tag, value) for tag, value in found])

    def image(self, name: str, image: Image, step: int) -> None:
        """A picture: `val/confusion` is `confusion` of the validation."""
        split, _, tag = name.partition("/")
        self._write(split, step, [summaries.picture(tag, image)])

    def histograms(self, tensors: Iterable[tuple[str, "Tensor"]], step: int) -> None:
        """Distributions of the finite values: `weights/<name>`, `gradients/<name>`."""
        found = []
        for name, tensor in tensors:
            values = tensor.detach().double().cpu().numpy().ravel()
            finite = values[np.isfinite(values)]
            if finite.size:
                found.append(summaries.histogram(name, finite))
        self._write("train", step, found)

    def flush(self) -> None:
        """All that was told is on the disk."""
        if not self._failed:
            with self._careful():
                for file in self._files.values():
                    file.sync()

    # ---- after

    def end(self, results: Mapping[str, Any], *, completed: bool) -> None:
        """The test beside training and validation, what was best, and that the run has completed."""
        step = int(results["steps"] or 0)
        if completed:
            self._evaluation("test", step, results["metrics"])
            self._best(results["best"], results["metrics"], step)
            self._write("train", step, [summaries.completed(time.time())])
        self.flush()
        if not self._failed:
            with self._careful():
                for file in self._files.values():
                    file.close()

    def _best(self, best: Mapping[str, Any] | None, metrics: Mapping[str, float], step: int) -> None:
        """Validation of the best epoch, and the test of its weights, by the metric that chose it."""
        if best is None or best["metric"] == "step":  # a task without a measure keeps its last weights
            return
        name = best["metric"].lstrip("-")
        group, _, rest = tag_of(name)[1].partition("/")
        tested = metrics.get(f"test/{name.removeprefix('val/')}")
        for split, value in (("val", best["value"]), ("test", tested)):
            if value is not None:
                self._write(split, step, [summaries.scalar(f"{group}/{BEST}{rest}", value)])


def _is_head(event: Any) -> bool:
    return any(value.tag == summaries.START for value in event.summary.value)


def _is_of_the_end(event: Any) -> bool:
    tags = [value.tag for value in event.summary.value]
    return any(tag == summaries.END or tag.startswith((f"loss/{BEST}", f"metric/{BEST}")) for tag in tags)
