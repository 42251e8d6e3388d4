"""What mode=data shows of a set with masks: images under their masks, and the windows that are trained on."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dltrain.config.mode import LookAtData
from dltrain.config.model import UNet
from dltrain.config.overlay import option_of
from dltrain.config.spec import Target
from dltrain.data.imageset import ImageSet
from dltrain.data.sizes import parse_size, to_image

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL, LARGE = 128, 256  # longer sides of what is shown
MOST = {SMALL: (24, 8), LARGE: (8, 4)}  # images in the picture, and in a row of it, up to this side


def suited(cfg: LookAtData) -> tuple[LookAtData, list[str]]:
    """The config with a network that can learn masks, where it has another, and the words that would choose it."""
    if cfg.model.task == "segmentation":
        return cfg, []
    model, words = UNet(), [f"model={UNet.name}"]
    crop = parse_size(cfg.data.crop, "data.crop")
    if crop is not None and not model.takes(crop):
        words.append(f"data.crop={'x'.join(map(str, model.size_for(crop)))}")
    return replace(cfg, model=model), words


def suiting(cfg: LookAtData) -> str:
    """Behind the size of the windows: where it comes from."""
    return f", which suit model={option_of('model', cfg.model)}" if cfg.data.crop == "auto" else " (data.crop)"


def before_and_after(cfg: LookAtData, images: ImageSet) -> "Image":
    """The first images of epoch 0 under their masks, and below each the window that is trained on, under its own."""
    import torch

    from dltrain.data.streaming import StreamingData
    from dltrain.report.palette import overlaid, seen_in, with_legend
    from dltrain.report.sheet import sheet
    from dltrain.tasks.pictures import to_images, to_pixels

    spec, names = images.spec, images.names
    assert spec.target is Target.mask
    size = min(max(most for most, _ in MOST.values()), cfg.trainer.batch_size)
    data = StreamingData(images, torch.device("cpu"), size, cfg.seed, cfg.data.augment, workers=0)
    batch = next(data.batches(0))
    assert batch.targets is not None
    numbers = data.samples(batch.ids).tolist()
    longest = max(*spec.shape[1:], *(int(side) for n in numbers for side in sides(images, n)))
    most, across = MOST[SMALL if longest <= SMALL else LARGE]
    across = min(across, len(numbers))
    shown = min(most, len(numbers))
    numbers = numbers[: shown - shown % across]  # whole rows, so that each window stands below its image
    channels, classes = spec.shape[0], len(spec.class_names)
    whole = [images.read(number) for number in numbers]
    windows = to_images(to_pixels(batch.images[: len(numbers)], torch.tensor(spec.mean), torch.tensor(spec.std)))
    pairs = [(to_image(planes[:channels]), planes[channels]) for planes in whole]
    below = list(zip(windows, batch.targets.numpy(), strict=False))
    drawn = [[overlaid(*shrunk(*pair), classes) for pair in row] for row in (pairs, below)]
    own = [str(n) if names is None else Path(names[n]).name for n in numbers]
    sizes = [f"{mask.shape[0]}x{mask.shape[1]}" for _, mask in pairs]
    captions = [f"{name}\t{by}" for name, by in zip(own, sizes, strict=True)]
    said = ["window\t" + "x".join(map(str, spec.shape[1:]))] * len(numbers)
    cells, texts = list["Image"](), list[str]()
    for start in range(0, len(numbers), across):
        row = slice(start, start + across)
        cells += [*drawn[0][row], *drawn[1][row]]
        texts += [*captions[row], *said[row]]
    title = f"{spec.name}: images under their masks, and below each the window that is trained on in epoch 1"
    page = sheet(cells, texts, columns=across, title=title)
    seen, is_ignored = seen_in([mask for _, mask in [*pairs, *below]], classes)
    return with_legend(page, spec.class_names, seen, is_ignored=is_ignored)


def sides(images: ImageSet, number: int) -> tuple[int, int]:
    """Height and width that an image is read in."""
    assert images.sizes is not None  # sets with masks have them always
    return int(images.sizes[number, 0]), int(images.sizes[number, 1])


def shrunk(image: "Image", mask: NDArray[np.uint8]) -> tuple["Image", NDArray[Any]]:
    """Both no longer than LARGE; small ones enlarged by a whole factor, so that their pixels stay squares."""
    from PIL.Image import Resampling

    height, width = mask.shape
    longest = max(height, width)
    if longest <= LARGE:
        factor = max(1, SMALL // longest)
        enlarged = image.resize((width * factor, height * factor), Resampling.NEAREST)
        return enlarged, mask.repeat(factor, 0).repeat(factor, 1)
    high, wide = (max(1, round(side * LARGE / longest)) for side in (height, width))
    rows, columns = ((2 * np.arange(n) + 1) * side // (2 * n) for n, side in ((high, height), (wide, width)))
    return image.resize((wide, high), Resampling.LANCZOS), mask[np.ix_(rows, columns)]
