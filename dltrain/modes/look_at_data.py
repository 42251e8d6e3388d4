"""mode=data: a data set as it is before anything is trained on it. Nothing trains, and no run is made."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dltrain import atomic
from dltrain.config.check import check_colours
from dltrain.config.messages import Mistake
from dltrain.config.mode import LookAtData
from dltrain.config.model import DCGAN
from dltrain.config.overlay import option_of
from dltrain.config.spec import Target
from dltrain.data import mask_facts
from dltrain.data.imageset import ImageSet, open_set
from dltrain.data.mask_facts import MaskFacts
from dltrain.data.problems import Facts, look, to_json
from dltrain.data.sizes import parse_size
from dltrain.modes import look_at_masks
from dltrain.output import check_output, made
from dltrain.report import mask_sheet
from dltrain.report.datasheet import LABEL, lines, suggestions
from dltrain.report.table import near
from dltrain.report.terminal import Screen
from dltrain.run import OUTPUTS

if TYPE_CHECKING:
    from PIL.Image import Image

MOST, ACROSS = 24, 8  # images in the picture, and in a row of it
VALUES = 4  # of an image's values that stand below it


def run(cfg: LookAtData, screen: Screen) -> int:
    """Tell all about `cfg.data`, and draw a batch of it before and after augmentation. Returns 0, also with problems.

    Raises Mistake if the set cannot be opened at all.
    """
    if cfg.output is not None:
        check_output(cfg.output, OUTPUTS / "data")
    is_masks = cfg.data.target_kind == Target.mask
    cfg, instead = look_at_masks.suited(cfg) if is_masks else suited(cfg)
    images = open_set(cfg, screen.line)
    check_colours(cfg, images.spec)
    columns = screen.columns if screen.live else 100
    facts: Facts | MaskFacts
    if is_masks:
        facts = mask_facts.look(images, screen.line)
        told = mask_sheet.lines(facts, images.spec, images.left_out, look_at_masks.suiting(cfg), columns)
        next_ = mask_sheet.suggestions(facts, cfg.task, screen.typed, instead)
    else:
        known = type(cfg.data).native
        facts = look(images, None if known is None else known[1:], screen.line)
        seen_by = f"by model={option_of('model', cfg.model)}"
        told = lines(facts, images.spec, images.left_out, seen_by, columns, screen.out.encoding)
        next_ = suggestions(facts, screen.typed, cfg.task.name, instead)
    screen.clear()
    for text in told:
        screen.line(text)
    try:
        place = _write(cfg, images, facts)
    except Mistake as mistake:  # in a folder that may only be read, what has been told is still worth having
        screen.warn(f"no picture: {mistake}")
        place = None
    for i, text in enumerate(next_):
        screen.line(f"{'' if i else 'next':<{LABEL}}{text}")
    if place is not None:
        files = " and data.json" if cfg.output is not None else ""
        screen.line(f"{'written':<{LABEL}}{near(place / 'batch.png')}{files}")
    return 0


def suited(cfg: LookAtData) -> tuple[LookAtData, list[str]]:
    """The config with a network that can learn from images alone, where it has another, and words that choose it."""
    if cfg.data.target_kind != Target.nothing or cfg.model.task == "adversarial":
        return cfg, []
    model, words = DCGAN(), [f"model={DCGAN.name}"]
    size = parse_size(cfg.data.size)
    if size is not None and not model.takes(size):
        words.append(f"data.size={'x'.join(map(str, model.size_for(size)))}")
    return replace(cfg, model=model), words


def _write(cfg: LookAtData, images: ImageSet, facts: Facts | MaskFacts) -> Path:
    is_masks = isinstance(facts, MaskFacts)
    picture = look_at_masks.before_and_after(cfg, images) if is_masks else before_and_after(cfg, images)
    known = mask_facts.to_json(facts, images) if isinstance(facts, MaskFacts) else to_json(facts, images)
    with made(cfg.output, OUTPUTS / "data") as product:
        atomic.write_new(product.temporary / "batch.png", lambda file: picture.save(file, "PNG"))
        if cfg.output is not None:
            text = json.dumps(known, indent=2)
            atomic.write_new(product.temporary / "data.json", lambda file: file.write(text.encode()))
    return product.path


def before_and_after(cfg: LookAtData, images: ImageSet) -> "Image":
    """The first images of epoch 0 as they are read, and below each what is then trained on."""
    import torch

    from dltrain.data.streaming import StreamingData
    from dltrain.report.sheet import sheet
    from dltrain.tasks.pictures import to_images, to_pixels

    spec, device = images.spec, torch.device("cpu")
    size, changes = min(MOST, cfg.trainer.batch_size), cfg.data.augment
    data = StreamingData(images, device, size, cfg.seed, changes, workers=0, sampling=cfg.data.sampling)
    batch = next(data.batches(0))
    across = min(ACROSS, len(batch.ids))
    shown = len(batch.ids) - len(batch.ids) % across  # whole rows, so that each stands below its own
    numbers = data.samples(batch.ids[:shown]).tolist()
    plain = torch.from_numpy(np.stack([images.read(number) for number in numbers]))
    changed = to_pixels(batch.images[:shown], torch.tensor(spec.mean), torch.tensor(spec.std))
    before, after = to_images(plain), to_images(changed)
    own = [_caption(images, number) for number in numbers]
    same = (plain == changed).flatten(1).all(1).tolist()
    said = ["unchanged" if alike else "augmented" for alike in same]
    if batch.targets is not None and spec.target == Target.classes and batch.targets.ndim == 2:
        said = [_shares(spec.class_names, row) for row in batch.targets.tolist()]
    pictures, captions = [], []
    for start in range(0, shown, across):
        row = slice(start, start + across)
        pictures += [*before[row], *after[row]]
        captions += [*own[row], *said[row]]
    title = f"{spec.name}: images as they are, and below each what is trained on in epoch 1"
    return sheet(pictures, captions, columns=across, title=title)


def _caption(images: ImageSet, number: int) -> str:
    """The class, the values, or the name where there are neither."""
    spec, target = images.spec, images.targets[number]
    if spec.target == Target.classes:
        return spec.class_names[int(target)]
    if not spec.value_names:
        return str(number) if images.names is None else Path(images.names[number]).name
    return "\n".join(f"{name}\t{v:.3g}" for name, v in zip(spec.value_names[:VALUES], target.tolist(), strict=False))


def _shares(names: Sequence[str], shares: Sequence[float]) -> str:
    """The two largest shares of classes: `cat 0.70`, `dog 0.30`."""
    largest = sorted(range(len(shares)), key=lambda label: -shares[label])[:2]
    return "\n".join(f"{names[label]}\t{shares[label]:.2f}" for label in largest if shares[label] > 0)
