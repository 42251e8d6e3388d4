"""What a run tells people, by plain calls from the loop: banner, batch, step, epoch, end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.report.lines import Lines
from dltrain.report.rows import SPACING, evaluated, is_spaced
from dltrain.report.terminal import Screen

if TYPE_CHECKING:
    from torch import Tensor

    from dltrain.environment import Environment
    from dltrain.run import Run
    from dltrain.tasks import Evaluation, Picture


class Report:
    """The screen, TensorBoard's event files, and the pictures of one run, each in a file of its own."""

    def __init__(self, screen: Screen, cfg: Config, spec: DataSpec, run: "Run", monitor: str, step: int = 0) -> None:
        """`monitor` is the task's. `step` is where the run begins or goes on: an event file loses what is beyond it."""
        # late, since help and mistakes need this package for the screen, and these need NumPy and Pillow
        from dltrain.report.album import Album
        from dltrain.report.tensorboard import TensorBoard

        self.screen = screen
        self._shown = step  # at which TensorBoard last got the pictures of an evaluation
        self.lines = Lines(screen, cfg, spec, run)
        self.clock = self.lines.clock
        self.board = TensorBoard(run.path / "tensorboard", cfg, screen, step) if cfg.log.tensorboard else None
        self.album = Album(run.path / "pictures", cfg, spec, monitor, screen, step) if cfg.log.pictures else None

    def banner(self, parameters: int, environment: "Environment", notes: Sequence[str] = ()) -> None:
        """What will run."""
        self.lines.banner(parameters, environment, notes)
        if self.board:
            self.board.banner(parameters, environment)

    def batch(self, pictures: Mapping[str, "Picture"], step: int) -> None:
        """The first batch that is trained on, as the networks see it."""
        self._show("train", self.album.batch(pictures) if self.album else {}, step)

    def step(
        self, step: int, total_steps: int, epoch: int, epochs: int, scalars: Mapping[str, float], *, is_point: bool
    ) -> None:
        """Means of the training scalars since the last point of the curves; else for the live line alone."""
        self.lines.step(step, total_steps, epoch, epochs, scalars, self.clock.images_per_second)
        if self.board and is_point:
            self.board.step(step, scalars, self.clock)

    def histograms(self, tensors: Iterable[tuple[str, "Tensor"]], step: int) -> None:
        """Weights and gradients after the last step of an epoch: `weights/<name>`, `gradients/<name>`."""
        if self.board:
            self.board.histograms(tensors, step)

    def epoch(self, rows: Sequence[Mapping[str, float]], is_best: bool, found: "Evaluation") -> None:
        """An epoch has ended: the last of `rows` is its row of `metrics.csv`; `found` is empty without evaluation."""
        self.lines.epoch(rows[-1], is_best)
        if self.board:
            self.board.epoch(rows[-1])
        if found.metrics:
            self.lines.notes(found.notes)
        step = int(rows[-1]["step"])
        frames = self.album.frames(rows, found.frames) if self.album else {}
        if frames and is_spaced(evaluated(rows)):
            self._show("val", frames, step)
        drawn = self.album.epoch(rows, is_best, found.pictures) if self.album else {}
        if drawn and step >= SPACING * self._shown:
            self._shown = step
            self._show("val", drawn, step)

    def note(self, text: str) -> None:
        """A line on the screen; inside a sweep, which has its own lines, in `run.log` alone."""
        if self.screen.brief:
            self.screen.log_only(text)
        else:
            self.screen.line(text)

    def flush(self) -> None:
        """Everything told so far is in the files: called before each checkpoint, so that none lies behind one."""
        if self.board:
            self.board.flush()

    def end(
        self,
        results: Mapping[str, Any],
        reason: str,
        rows: Sequence[Mapping[str, float]],
        pictures: Mapping[str, "Picture"],
    ) -> None:
        """The result on the screen, in TensorBoard and in pictures; see `Lines.end`."""
        drawn = self.album.end(rows, results["metrics"], pictures) if self.album else {}
        if reason == "completed":  # a run that stops here may stop at this step again
            self._show("test" if pictures else "best", drawn, int(results["steps"] or 0))
        if self.board:
            self.board.end(results, completed=reason == "completed")
        self.lines.end(results, reason, self.album.names() if self.album else [])

    def _show(self, split: str, drawn: Mapping[str, Any], step: int) -> None:
        if self.board:
            for name, image in drawn.items():
                self.board.image(f"{split}/{name}", image, step)
