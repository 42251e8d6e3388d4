"""What answered masks look like: image, truth, answer and errors of some images and of the worst; the confusion."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dltrain.report.masks import Looked, mask_sheet
from dltrain.report.palette import overlaid, seen_in, with_legend
from dltrain.report.sheet import note, sheet
from dltrain.report.table import count, percent
from dltrain.tasks import Batch, Picture
from dltrain.tasks.kept import Kept, spread
from dltrain.tasks.metrics import accuracy
from dltrain.tasks.overlap import iou
from dltrain.tasks.pictures import FEW, MANY, SMALL, to_images

SHOWN = 12  # images of a sheet
SIDE = 160  # larger images are reduced to this longer side

Pixels = Callable[[Tensor], Tensor]  # (B, C, H, W) normalized to uint8


class Views:
    """Keeps, during an evaluation, what its pictures show; `add` never waits for the device."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.images = 0
        self._worst = Kept(SHOWN)
        self._some = Kept(SHOWN)

    def add(self, batch: Batch, answers: Tensor, counts: Tensor, to_pixels: Pixels) -> None:
        """Look at a batch with its (B, H, W) answers, and the (B, K, K) counts of their pixels."""
        truth = batch.targets
        assert truth is not None
        self.images += len(batch.ids)
        pixels = counts.sum((1, 2))
        wrong = pixels - counts.diagonal(dim1=1, dim2=2).sum(1)
        columns = {"ids": batch.ids, "iou": iou(counts).nanmean(1), "pixels": pixels, "wrong": wrong}

        def take(rows: Tensor) -> dict[str, Tensor]:
            fields = {name: column.index_select(0, rows) for name, column in columns.items()}
            images, masks = to_pixels(batch.images.index_select(0, rows)), truth.index_select(0, rows)
            height, width = reduced(*masks.shape[1:])
            sides = [torch.full_like(fields["ids"], side) for side in (height, width)]
            fields["sides"] = torch.stack(sides, 1)
            small = images.float()
            if (height, width) != images.shape[2:]:
                small = F.interpolate(small, (height, width), mode="bilinear", antialias=True, align_corners=False)
            fields["images"] = _framed(small.round().clamp(0, 255).to(torch.uint8))
            for name, values in (("truth", masks), ("answers", answers.index_select(0, rows))):
                fields[name] = _framed(nearest(values, height, width))
            return fields

        self._worst.add(torch.where(wrong > 0, -columns["iou"], -torch.inf), take)
        self._some.add(spread(batch.ids), take)

    def pictures(self, confusion: Tensor) -> dict[str, Picture]:
        """`confusion`, `worst` and `predictions`, drawn when they are called, with (K, K) counts of pixels."""
        return {
            "confusion": lambda: self._confusion(confusion),
            "worst": self._mistakes,
            "predictions": self._predictions,
        }

    def _confusion(self, confusion: Tensor) -> Image.Image:
        from dltrain.report import plots

        counts = confusion.cpu()
        right, pixels = int(counts.diagonal().sum()), int(counts.sum())
        if not pixels:
            return note("all pixels are ignored")
        title = f"{percent(accuracy(counts))} of pixels right: {right:,} of {count(pixels, 'pixel')}"
        return plots.confusion(counts.numpy(), self.class_names, title, of="pixels")

    def _mistakes(self) -> Image.Image:
        scores, fields = self._worst.read()
        wrong = int((scores > -torch.inf).sum())
        if not wrong:
            return note(f"no wrong pixel in {count(self.images, 'image')}")
        fields = {name: values[:wrong] for name, values in fields.items()}
        return self._sheet(fields, f"{wrong} of {count(self.images, 'image')}, lowest mean IoU first")

    def _predictions(self) -> Image.Image:
        _, fields = self._some.read()
        order = fields["ids"].argsort()
        fields = {name: values[order] for name, values in fields.items()}
        return self._sheet(fields, f"answers to {len(order)} of {count(self.images, 'image')}")

    def _sheet(self, fields: dict[str, Tensor], title: str) -> Image.Image:
        looks = []
        numbers = zip(*(fields[name].tolist() for name in ("sides", "iou", "wrong", "pixels")), strict=True)
        for row, ((height, width), share, wrong, pixels) in enumerate(numbers):
            (image,) = to_images(fields["images"][row : row + 1, :, :height, :width])
            truth, answer = (fields[name][row, :height, :width].numpy() for name in ("truth", "answers"))
            caption = (
                f"mean IoU {percent(share)}, {percent(wrong / pixels)} of pixels wrong" if pixels else "all ignored"
            )
            looks.append(Looked(image, truth, answer, caption))
        return mask_sheet(looks, self.class_names, title)


def windows_picture(batch: Batch, class_names: tuple[str, ...], to_pixels: Pixels) -> Picture:
    """A sheet of the first windows of a training batch, as the networks see them, under the colours of their masks."""
    shown = MANY if batch.images[0, 0].numel() <= SMALL else FEW
    images, masks = batch.images[:shown], batch.targets
    assert masks is not None
    masks = masks[:shown]

    def draw() -> Image.Image:
        truths = list(masks.cpu().numpy())
        seen, is_ignored = seen_in(truths, len(class_names))
        drawn = [
            overlaid(image, truth, len(class_names))
            for image, truth in zip(to_images(to_pixels(images)), truths, strict=True)
        ]
        return with_legend(sheet(drawn, [""] * len(drawn)), class_names, seen, is_ignored=is_ignored)

    return draw


def reduced(height: int, width: int) -> tuple[int, int]:
    """Sides of an image no longer than SIDE, its shape kept."""
    longest = max(height, width, SIDE)
    return max(1, round(height * SIDE / longest)), max(1, round(width * SIDE / longest))


def nearest(masks: Tensor, height: int, width: int) -> Tensor:
    """(R, height, width) of (R, H, W) masks: the pixels at the middles of the parts that they are cut into."""
    for dimension, side in ((1, height), (2, width)):
        size = masks.shape[dimension]
        at = (2 * torch.arange(side, device=masks.device) + 1) * size // (2 * side)
        masks = masks.index_select(dimension, at) if side != size else masks
    return masks


def _framed(values: Tensor) -> Tensor:
    """At the upper left of SIDE x SIDE, so that images of all sizes can be kept side by side."""
    return F.pad(values, (0, SIDE - values.shape[-1], 0, SIDE - values.shape[-2]))
