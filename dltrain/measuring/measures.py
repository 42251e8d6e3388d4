"""What is measured of generated images: against the training images, and beside the real images of a split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from PIL.Image import Image
from torch import Tensor

from dltrain.data.imageset import spread
from dltrain.digest import weights_sha256 as sha256
from dltrain.measuring import modes, neighbours
from dltrain.measuring.checkerboard import excess, spectrum
from dltrain.measuring.fid import Moments, frechet_distance
from dltrain.measuring.judge import Judge
from dltrain.measuring.pairs import SHOWN, pairs
from dltrain.tasks import Picture

MOST_FEATURES = 10_000  # generated, and real, images whose neighbours among features are looked for
MOST_LOOKED_UP = 1_000  # images whose nearest training image is looked for
FEWEST_LOOKED_UP = 100
MULTIPLICATIONS = 75e9  # that one such search may take: about two seconds on one core
MOST_BYTES = 1 << 30  # of training images that are kept to look through
COPY = 0.01  # the share of real images that would count as copies


class Measured(NamedTuple):
    """What was found."""

    metrics: dict[str, float]
    pictures: dict[str, Picture]
    notes: tuple[str, ...]


@dataclass
class Training:
    """The training images as everything is measured against, looked at once."""

    pixels: Tensor  # (M, C, H, W) uint8, on the device: all of them, or as many as may be kept
    moments: Moments | None  # of the judge's features of all of them, or of as many as it is shown
    features: Tensor  # (R, width) of some of them, spread evenly
    shares: list[float]  # of each of the judge's classes


@dataclass
class Real:
    """What is known of a split's real images, which are the same each time."""

    metrics: dict[str, float]
    copy: float  # the share of `apart_from_others` up to which an image counts as a copy
    spectrum: Tensor


class Measures:
    """Metrics of generated images. A judge's, of all that its features and classes say; without one of pixels alone.

    It is no part of what is learned: a copy of the task has the same one, and no state dict has anything of it.
    """

    def __init__(
        self,
        judge: Judge | None,
        training: Callable[[], Iterator[Tensor]],
        count: int,
        cures: Sequence[str],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`training()` goes over all `count` training images, (B, C, H, W) uint8; `say` is told what takes long.

        `cures` are the settings that are named where classes are lost.
        """
        self.judge = judge
        self._images = training
        self._count = count
        self._cures = cures
        self._say = say
        self._known: Training | None = None
        self._real: dict[tuple[str, int], Real] = {}

    def __deepcopy__(self, memo: Mapping[int, object]) -> Self:
        return self

    def evaluate(self, generated: Tensor, real: Tensor) -> Measured:
        """Of (N, C, H, W) generated and (M, C, H, W) real images, uint8, of a split that was not learned from.

        With a judge: `fid` to the training images, and `real_fid`, that of as many real ones (or all there are): the
        fewer they are, the larger it comes out; `precision` and `recall`;
        `class_share/<class>`, `rarest_class` (the smallest share) and `class_entropy` (1: all are equally frequent).
        Always: `nearest_distance` to a training image in pixels of 0 to 1 (root mean square) and
        `real_nearest_distance`; `copies`, the share that is as near to one training image, compared with the 50 nearest
        ones, as one in a hundred real images is; `checkerboard` and `real_checkerboard` in decibels.
        """
        training = self._training()
        with exactly():
            return self._evaluate(generated, real, training)

    def _evaluate(self, generated: Tensor, real: Tensor, training: Training) -> Measured:
        beside = self._beside(real, len(generated), training)
        metrics: dict[str, float] = {}
        pictures: dict[str, Picture] = {}
        notes: list[str] = []
        if self.judge is not None:
            found, drawn, told = self._judged(self.judge, generated, training, beside)
            metrics |= found
            pictures |= drawn
            notes += told
        metrics |= self._nearest(generated, training, beside, pictures)
        power = spectrum(generated)
        metrics["checkerboard"] = excess(power)
        metrics["real_checkerboard"] = beside.metrics["real_checkerboard"]
        pictures["checkerboard"] = _spectra(beside.spectrum, power)
        return Measured(metrics, pictures, tuple(notes))

    # ---- the judge's part

    def _judged(
        self, judge: Judge, generated: Tensor, training: Training, beside: Real
    ) -> tuple[dict[str, float], dict[str, Picture], list[str]]:
        assert training.moments is not None
        seen = judge.look(generated)
        metrics = {"fid": frechet_distance(training.moments, Moments.of(seen.features))}
        metrics["real_fid"] = beside.metrics["real_fid"]
        few = min(len(generated), len(training.features), MOST_FEATURES)  # as many of both, as in the paper
        precision, recall = neighbours.precision_recall(evenly(seen.features, few), evenly(training.features, few))
        metrics |= {"recall": recall, "precision": precision}
        notes = few_samples(judge, len(generated))
        pictures: dict[str, Picture] = {}
        if seen.classes is not None and judge.class_names:
            names, real = judge.class_names, training.shares
            shares = modes.shares(seen.classes, len(names))
            metrics |= {"rarest_class": min(shares), "class_entropy": modes.entropy(shares)}
            metrics |= {f"class_share/{name}": share for name, share in zip(names, shares, strict=True)}
            pictures["modes"] = lambda: modes.bars(shares, real, names, judge.name)
            lost = modes.lost_note(shares, real, len(generated), names, self._cures)
            notes += [lost] if lost else []
        return metrics, pictures, notes

    # ---- the pixels' part

    def _nearest(
        self, generated: Tensor, training: Training, beside: Real, pictures: dict[str, Picture]
    ) -> dict[str, float]:
        shown = evenly(generated, looked_up(len(generated), training.pixels))
        index, distances, around = neighbours.nearest(shown.flatten(1), training.pixels.flatten(1))
        closest = torch.sort(distances, stable=True).indices[:SHOWN]
        those, their = shown[closest].cpu(), training.pixels[index[closest].to(training.pixels.device)].cpu()
        pictures["nearest"] = lambda: pairs(those, their, distances[closest], len(training.pixels))
        return {
            "nearest_distance": float(distances.mean()),
            "real_nearest_distance": beside.metrics["real_nearest_distance"],
            "copies": float((neighbours.apart_from_others(distances, around) <= beside.copy).double().mean()),
        }

    # ---- what is looked at once

    def _beside(self, real: Tensor, samples: int, training: Training) -> Real:
        name = sha256({"images": real}), samples
        if name not in self._real:
            shown = evenly(real, looked_up(len(real), training.pixels))
            _, distances, around = neighbours.nearest(shown.flatten(1), training.pixels.flatten(1))
            copy = float(neighbours.apart_from_others(distances, around).quantile(COPY))
            power = spectrum(real)
            metrics = {"real_nearest_distance": float(distances.mean()), "real_checkerboard": excess(power)}
            if self.judge is not None and training.moments is not None:
                features = self.judge.look(evenly(real, samples)).features
                metrics["real_fid"] = frechet_distance(training.moments, Moments.of(features))
            self._real[name] = Real(metrics, copy, power)
        return self._real[name]

    def _training(self) -> Training:
        if self._known is None:
            self._known = self._look_at_training()
        return self._known

    def _look_at_training(self) -> Training:
        """One pass. Of very many images some, spread evenly, are kept as pixels, and `say` is told how many."""
        judge, count = self.judge, self._count
        kept, pixels, at = None, [], 0
        features: list[Tensor] = []
        answers: list[Tensor] = []
        moments = None if judge is None else Moments(judge.width)
        chosen = _numbers(count, count if judge is None else judge.most)
        remembered = chosen[_numbers(len(chosen), MOST_FEATURES)]
        for part in self._images():
            if kept is None:
                kept = _numbers(count, max(1, MOST_BYTES // max(1, part[0].numel())))
                self._tell(count, len(kept), len(chosen))
            with exactly():  # not around the loader's own work, which may keep what it makes
                pixels.append(part[_within(kept, at, len(part)).to(part.device)])
                rows = _within(chosen, at, len(part))
                if judge is not None and moments is not None and len(rows):
                    seen = judge.look(part[rows.to(part.device)])
                    moments.add(seen.features)
                    features.append(seen.features[torch.isin(rows + at, remembered)])
                    answers += [] if seen.classes is None else [seen.classes]
            at += len(part)
        shares = modes.shares(torch.cat(answers), len(judge.class_names)) if judge is not None and answers else []
        return Training(torch.cat(pixels), moments, torch.cat(features) if features else torch.empty(0), shares)

    def _tell(self, count: int, kept: int, chosen: int) -> None:
        if kept < count:
            self._say(f"nearest training images are looked for among {kept:,} of {count:,}, spread evenly")
        if self.judge is not None and chosen < count:
            self._say(f"FID is to {chosen:,} of {count:,} training images, spread evenly: {self.judge.name} is slow")


@contextmanager
def exactly() -> Iterator[None]:
    """Without gradients, in the precision that is written, whatever a run computes in."""
    cuda: Any = torch.backends.cuda.matmul
    before = cuda.allow_tf32
    cuda.allow_tf32 = False
    try:
        with torch.inference_mode(), ExitStack() as stack:
            for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        cuda.allow_tf32 = before


def few_samples(judge: Judge, samples: int) -> list[str]:
    """What to say where a covariance is estimated from too few samples: FID is then too large by chance."""
    enough = 2 * judge.width
    if samples >= enough:
        return []
    return [
        f"{samples:,} samples are few for FID over the {judge.width:,} features of {judge.name}: it comes out too "
        f"large, and compares only with others of as many; task.samples={enough} and more says more"
    ]


def evenly(rows: Tensor, most: int) -> Tensor:
    """At most so many rows, spread evenly over all."""
    return rows if len(rows) <= most else rows[_numbers(len(rows), most).to(rows.device)]


def looked_up(images: int, among: Tensor) -> int:
    """Of how many images the nearest is looked for, so that a search takes seconds at most."""
    affordable = int(MULTIPLICATIONS / (len(among) * among[0].numel()))
    return min(images, MOST_LOOKED_UP, max(FEWEST_LOOKED_UP, affordable))


def _numbers(count: int, most: int) -> Tensor:
    """At most so many of the numbers up to `count`, spread evenly, ascending."""
    return torch.from_numpy(spread(torch.arange(count).numpy(), most))


def _within(numbers: Tensor, start: int, length: int) -> Tensor:
    """Those of ascending numbers that lie in `length` from `start` on, counted from there."""
    first, last = torch.searchsorted(numbers, torch.tensor([start, start + length])).tolist()
    return numbers[first:last] - start


def _spectra(real: Tensor, generated: Tensor) -> Picture:
    def draw() -> Image:
        from dltrain.report.spectra import spectra

        return spectra(real.numpy(), generated.numpy(), (excess(real), excess(generated)))

    return draw
