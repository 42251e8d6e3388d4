"""A run's lines on the screen: banner, step, epoch, end."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.config.messages import command
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.report.clock import Clock
from dltrain.report.table import (
    count,
    duration,
    labelled,
    memory,
    metric,
    near,
    percent,
    rank,
    seconds,
    spoken,
    standard_error,
)
from dltrain.report.terminal import Screen, cut, safe
from dltrain.report.values import beside_real, is_of_real, of_each_class, of_each_output, with_unit

if TYPE_CHECKING:
    from dltrain.environment import Environment
    from dltrain.run import Run

LABEL, WIDEST_LABEL = 15, 30  # columns of the labels of the last table


class Lines:
    """One run's lines on the screen."""

    def __init__(self, screen: Screen, cfg: Config, spec: DataSpec, run: "Run") -> None:
        self.screen = screen
        self.cfg = cfg
        self.spec = spec
        self.run = run
        self.clock = Clock()
        per_epoch = max(1, spec.counts["train"] // cfg.trainer.batch_size)
        steps = 1 if cfg.trainer.dry_run else cfg.trainer.steps
        self._total = cfg.trainer.epochs * per_epoch if steps is None else steps
        self._epochs = -(-self._total // per_epoch)
        self._began: tuple[float, int] | None = None  # wall clock and step at the first reading
        self._metric = ""  # the last validation, as it is shown
        self._noted: set[str] = set()  # what the last evaluation had to say
        self._label = LABEL

    # ---- before

    def banner(self, parameters: int, environment: "Environment", notes: Sequence[str] = ()) -> None:
        """What will run: model, parameters, data and counts, device, precision, seed, run directory; then notes."""
        spec, cfg = self.spec, self.cfg
        images = ", ".join(f"{number:,} {split}" for split, number in spec.counts.items())
        classes = f"; {count(len(spec.class_names), 'class')}" if spec.class_names else ""
        classes += f"; {count(len(spec.value_names), 'output')}" if spec.value_names else ""
        where = f"; {near(Path(spec.where)) if spec.where != 'embedded' else 'embedded'}" if spec.where else ""
        machine = [
            str(environment.device),
            count(environment.threads, "thread"),
            environment.precision,
            f"seed {cfg.seed}",
            str(cfg.determinism),
        ]
        for text in (
            f"{cfg.model.title} ({parameters:,} parameters) on {safe(spec.name)} ({images} images{classes}{where})",
            f"{', '.join(machine)}   {'dry run' if cfg.trainer.dry_run else f'run {near(self.run.path)}'}",
            *spec.notes,
            *cfg.model.notes(spec.shape[1:]),
            *self.screen.notes,
            *notes,
        ):
            self._say(text)
        for name, reason in environment.reasons.items():
            self.screen.log_only(f"{name}: {reason}")

    def _say(self, text: str) -> None:
        """A line; inside a sweep, which has its own lines, in `run.log` alone."""
        if self.screen.brief:
            self.screen.log_only(text)
        else:
            self.screen.line(text)

    # ---- while training

    def step(
        self,
        step: int,
        total_steps: int,
        epoch: int,
        epochs: int,
        scalars: Mapping[str, float],
        images_per_second: float,
    ) -> None:
        """Scalars of the steps since the last call, for the live line."""
        self._total, self._epochs = total_steps, epochs
        if self._began is None:
            self._began = (time.monotonic(), step)
        left = self._seconds_left(step)

        def parts() -> list[str]:
            losses = _losses(scalars)
            speed = [f"{images_per_second:,.0f} img/s"] if images_per_second else []
            ahead = [f"{duration(left)} left"] if left is not None else []
            found = [self._metric] if self._metric else []
            if len(losses) > 1:  # of networks that play against each other: they do not tell how far it has come
                return [*found, *ahead, ", ".join(losses), *speed]
            return [*losses, *ahead, *found, *speed]

        label = f"{self.screen.place}epoch {epoch:>{len(str(epochs))}}/{epochs}"
        self.screen.progress(label, step, total_steps, parts)

    def epoch(self, row: Mapping[str, float], is_best: bool) -> None:
        """An epoch has ended: its row of `metrics.csv`. One line where there is no terminal, and in `run.log`."""
        validation = [
            f"{spoken(name)} {with_unit(name, value, self.spec)}"
            for name, value in row.items()
            # numbers of single classes stay in metrics.csv
            if name.startswith("val/") and name.count("/") == 1
        ]
        chosen = next((text for text in validation if "loss" not in text), validation[0] if validation else "")
        self._metric = chosen or self._metric
        epochs = self._epochs
        speed = self.clock.images_per_second
        left = self._seconds_left(int(row["step"]))
        words = [
            f"epoch {int(row['epoch']):>{len(str(epochs))}}/{epochs}",
            *_losses(row),
            *validation[:3],
            *([f"{speed:,.0f} img/s"] if speed else []),
            *([f"{duration(left)} left"] if left else []),
            *(["best"] if is_best else []),
        ]
        text = "  ".join(words)
        if self.screen.live:
            self.screen.log_only(text)
        else:
            self.screen.line(text)

    def notes(self, notes: Sequence[str]) -> None:
        """What an evaluation has to say: each told once for as long as it holds, whatever its numbers become.

        What stands behind a colon may change, too.
        """
        heads = ["".join(c for c in note.partition(":")[0] if not c.isdigit()) for note in notes]
        for head, note in zip(heads, notes, strict=True):
            if head not in self._noted:
                for line in labelled("note", note, self.screen.room, len("note  ")):
                    self._say(line)
        self._noted = set(heads)

    def _seconds_left(self, step: int) -> float | None:
        """From the pace since the first reading; the first step alone, which sets much up, says little."""
        if self._began is None or step <= self._began[1]:
            return None
        then, at = self._began
        return float((time.monotonic() - then) / (step - at) * (self._total - step))

    # ---- after

    def end(self, results: Mapping[str, Any], reason: str = "completed", pictures: Sequence[str] = ()) -> None:
        """The result with its uncertainty, what was kept, and commands worth typing next, each of which runs.

        `results` is what `results.json` holds; `reason` is `completed`, a signal's name or `max_time`; `pictures`
        are the names of files below `pictures/`.
        """
        self.screen.clear()
        if self.cfg.trainer.dry_run:
            self._end_dry_run(results, reason)
            return
        if reason != "completed":
            asked = "trainer.max_time is over" if reason == "max_time" else f"asked to stop by {reason}"
            self._row("stopped", f"{asked}; saved at step {results['steps'] or 0:,} of {self._total:,}")
            self._run(pictures)
            self._commands([f"dltrain resume={run_word(self.run.path)}"])
            return
        metrics = results["metrics"]
        split = "test" if self.spec.counts.get("test") else "val"
        # one number a class stays in results.json
        names = [name for name in sorted(metrics, key=rank) if name.startswith("test/") and name.count("/") == 1]
        rows = [
            (spoken(name), self._with_uncertainty(name, metrics[name]) + beside_real(name, metrics))
            for name in names
            if not is_of_real(name, metrics)
        ]
        each = of_each_output(metrics, self.spec, "test") + of_each_class(metrics, self.spec, split)
        rows += [(cut(f"  {name}", WIDEST_LABEL - 1), text) for name, text in each]
        self._label = max([LABEL, *(len(label) + 1 for label, _ in rows)])
        for label, text in rows:
            self._row(label, text)
        if split == "val":
            self._row("test", "no test images: what is shown is the validation")
        best = results["best"]
        if best is not None:
            name = best["metric"].lstrip("-")
            validated = f"{spoken(name)} {metric(name, best['value'])}"
            self._row("best epoch", f"{best['epoch']} of {results['epochs']}   {validated}")
        if results["weights_sha256"]:
            self._row("weights", f"sha256 {results['weights_sha256'][:12]}")
        speed = results["images_per_second"]
        self._row("time", seconds(results["seconds"]) + (f"   {speed:,.0f} images/s" if speed else ""))
        self._run(pictures)
        self._commands(self.next_commands())

    def _run(self, pictures: Sequence[str]) -> None:
        self._row("run", near(self.run.path))
        if pictures:
            self._row("pictures", f"pictures/{', '.join(pictures)}")

    def _end_dry_run(self, results: Mapping[str, Any], reason: str) -> None:
        if reason != "completed":
            self._row("stopped", "before the dry run was through; it keeps nothing")
            return
        self._row("memory", f"{memory(results['peak_memory_bytes'])} at most")
        self._say("dry run: everything works; nothing is kept")
        self._commands([in_earnest(self.screen.typed)])

    def _commands(self, commands: Sequence[str]) -> None:
        for i, line in enumerate(commands):
            self._say(f"{'' if i else 'next':<{self._label}}{line}")

    def _with_uncertainty(self, name: str, value: float) -> str:
        total = self.spec.counts.get("test", 0)
        if name != "test/accuracy" or not total:
            return with_unit(name, value, self.spec)
        correct = round(value * total)
        error = standard_error(correct, total) * 100
        shown = f"{error:.1f}" if error >= 0.1 else f"{error:.2f}"
        return f"{percent(value)} ± {shown}   {correct:,} of {count(total, 'image')}; ± is one standard error"

    def _row(self, label: str, text: str) -> None:
        """`label  text`, folded below itself on a narrow terminal."""
        for line in labelled(label, text, self.screen.room, self._label):
            self._say(line)

    def next_commands(self) -> list[str]:
        """Commands that make sense after this run."""
        run = run_word(self.run.path)
        makes_images = self.cfg.task.name == "adversarial"
        commands = [f"dltrain mode=generate run={run}"] if makes_images else []
        commands.append(f"dltrain mode=eval run={run}")
        sweep = _sweep_command(self.screen.typed)
        if sweep:
            commands.append(sweep)
        commands.append(f"dltrain mode=reproduce run={run}")
        if self.cfg.log.tensorboard:
            path = near(self.run.path)
            commands.append(f"tensorboard --logdir {'outputs' if path.startswith('outputs/') else shlex.quote(path)}")
        return commands


def in_earnest(typed: Sequence[str]) -> str:
    """The command of a dry run as that of a run."""
    kept = [word for word in typed if not word.startswith("trainer.dry_run=")]
    return command([*kept, *(["trainer.dry_run=false"] if len(kept) == len(typed) else [])])


def run_word(path: Path) -> str:
    """What to type for this run: `last` where it is the newest below `outputs/`, else its folder, for a shell."""
    from dltrain.run import all_runs

    newest = all_runs()[:1]
    if newest and newest[0].resolve() == path.resolve():
        return "last"
    return shlex.quote(near(path))


def _sweep_command(typed: Sequence[str]) -> str:
    """The same command for two models (or the model typed) and three seeds, to see the spread."""
    keys = {word.partition("=")[0] for word in typed}
    kept = [word for word in typed if word.partition("=")[0] not in ("seed", "output")]
    if {"resume", "mode"} & keys:  # the words say nothing of what this run is
        return ""
    if any("," in word and "[" not in word for word in kept):
        return ""
    if not any(word.startswith(("model", "experiment", "task", "reg")) for word in kept):
        kept = ["model=mlp,lenet5", *kept]
    return "dltrain -m " + " ".join(shlex.quote(word) for word in [*kept, "seed=0,1,2"])


def _losses(scalars: Mapping[str, float]) -> list[str]:
    """`loss 0.0814`, or `generator loss 0.7000` for a named update, from training scalars."""
    found = []
    for name, value in scalars.items():
        split, _, rest = name.partition("/")
        if split == "train" and rest.rpartition("/")[2] == "loss":
            shown = f"{value:.4f}" if 1e-3 <= abs(value) < 1e3 else f"{value:.3g}"  # of one width, so nothing jumps
            found.append(f"{spoken(rest)} {shown}")
    return found
