"""What a classifier's answers look like: the confusion matrix, the worst mistakes, some images with their answers."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from dltrain.report.fonts import shown
from dltrain.report.sheet import note, sheet
from dltrain.report.table import count, percent
from dltrain.tasks import Batch, Picture
from dltrain.tasks.kept import Kept, spread
from dltrain.tasks.metrics import accuracy
from dltrain.tasks.pictures import to_images

SHOWN = 24  # images of a sheet


class Answers:
    """Keeps, during an evaluation, what its pictures show; `add` never waits for the device."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self._worst = Kept(SHOWN)
        self._some = Kept(SHOWN)

    def add(self, batch: Batch, logits: Tensor, losses: Tensor, to_pixels: Callable[[Tensor], Tensor]) -> None:
        """Look at a batch with its (B, K) logits and (B,) losses."""
        assert batch.targets is not None

        def take(rows: Tensor) -> dict[str, Tensor]:
            pixels = to_pixels(batch.images.index_select(0, rows))
            return answered(batch, logits, rows) | {"ids": batch.ids.index_select(0, rows), "pixels": pixels}

        self._worst.add(torch.where(logits.argmax(1) == batch.targets, -torch.inf, losses), take)
        self._some.add(spread(batch.ids), take)

    def pictures(self, confusion: Tensor) -> dict[str, Picture]:
        """`confusion`, `worst` and `predictions`, drawn when they are called; `confusion` is (K, K) counts."""
        return {
            "confusion": lambda: self._confusion(confusion),
            "worst": lambda: self._mistakes(confusion),
            "predictions": lambda: self._predictions(confusion),
        }

    def _confusion(self, confusion: Tensor) -> Image.Image:
        from dltrain.report import plots

        counts = confusion.cpu()
        right, images = int(counts.diagonal().sum()), int(counts.sum())
        title = f"{percent(accuracy(counts))} right: {right:,} of {count(images, 'image')}"
        return plots.confusion(counts.numpy(), self.class_names, title)

    def _mistakes(self, confusion: Tensor) -> Image.Image:
        scores, fields = self._worst.read()
        images = count(int(confusion.sum()), "image")
        wrong = int((scores > -torch.inf).sum() + scores.isnan().sum())
        if not wrong:
            return note(f"no wrong answer among {images}")
        fields = {name: values[:wrong] for name, values in fields.items()}
        all_wrong = int(confusion.sum() - confusion.diagonal().sum())
        which = (
            f"all {wrong} wrong answers of {images}"
            if wrong == all_wrong
            else f"{wrong} of {all_wrong:,} wrong answers"
        )
        title = f"{which}, highest loss first"
        return self._sheet(fields, title)

    def _predictions(self, confusion: Tensor) -> Image.Image:
        _, fields = self._some.read()
        order = fields["ids"].argsort()
        fields = {name: values[order] for name, values in fields.items()}
        return self._sheet(fields, f"answers to {len(order)} of {count(int(confusion.sum()), 'image')}")

    def _sheet(self, fields: dict[str, Tensor], title: str) -> Image.Image:
        captions, marks = said(fields, self.class_names)
        return sheet(to_images(fields["pixels"]), captions, title=title, marks=marks)


def answered(batch: Batch, logits: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """Of (R,) rows of a batch with its (B, K) logits: targets, answers, and the shares of both, `own` and `share`."""
    assert batch.targets is not None
    targets, z = batch.targets.index_select(0, rows), logits.index_select(0, rows)
    answers, shares = z.argmax(1), z.softmax(1)
    share, own = (shares.gather(1, of[:, None])[:, 0] for of in (answers, targets))
    return {"targets": targets, "answers": answers, "share": share, "own": own}


def said(fields: dict[str, Tensor], class_names: Sequence[str]) -> tuple[list[str], list[bool]]:
    """Captions of what `answered` gave: the class answered, the true one below a wrong answer; and which are right."""
    names = [shown(name) for name in class_names]
    captions, marks = [], []
    rows = zip(*(fields[name].tolist() for name in ("targets", "answers", "share", "own")), strict=True)
    for target, answer, share, own in rows:
        marks.append(target == answer)
        true = "" if target == answer else f"\ntrue {names[target]}\t{percent(own)}"
        captions.append(f"{names[answer]}\t{percent(share)}{true}")
    return captions, marks


def in_words(targets: Tensor, class_names: Sequence[str]) -> list[str]:
    """The class of each of (N,) targets; of (N, K) shares the two largest: `cat  70 %`, `dog  30 %` below it."""
    names = [shown(name) for name in class_names]
    if not targets.is_floating_point():
        return [names[target] for target in targets.tolist()]
    shares, classes = targets.topk(min(2, len(names)), dim=1)
    return ["\n".join(_shares(*row, names)) for row in zip(shares.tolist(), classes.tolist(), strict=True)]


def _shares(shares: list[float], classes: list[int], names: Sequence[str]) -> list[str]:
    if shares[0] > 0.9995:
        return [names[classes[0]]]
    return [f"{names[k]}\t{share * 100:.0f} %" for share, k in zip(shares, classes, strict=True) if share]
