"""What mode=data tells of a set with masks, as lines for the screen and as suggestions."""

from collections.abc import Sequence
from typing import NamedTuple

from dltrain.config.messages import command
from dltrain.config.segmentation import Segmentation, SegmentationLoss
from dltrain.config.spec import DataSpec
from dltrain.data.imageset import LeftOut
from dltrain.data.mask_facts import RARE, MaskClass, MaskFacts
from dltrain.report.datasheet import ALL, BAR, ENDS, LABEL, UNEVEN, alike, head, problems, unused
from dltrain.report.table import count, labelled, percent
from dltrain.report.terminal import cut, safe, width

SHORTEST = 4  # columns of a bar at least, where it is drawn at all
APART = 3  # columns between what is told of pixels and what of images


def lines(facts: MaskFacts, spec: DataSpec, left_out: Sequence[LeftOut], suiting: str, columns: int) -> list[str]:
    """All of it, for a screen so many columns wide. `suiting` says which model the windows suit."""
    _, height, width_ = spec.shape
    beyond = any(high < height or wide < width_ for (high, wide), _ in facts.sizes)
    mirrored = ", mirrored where images are smaller" if beyond else ""
    rows = [("trained in", f"windows of {height}x{width_}{suiting}{mirrored}; evaluated whole")]
    shown = [*head(facts, spec, left_out, rows, columns), "", *_balance(facts, columns), ""]
    return [*shown, *_problems(facts, left_out, columns)]


def suggestions(facts: MaskFacts, task: object, typed: Sequence[str], instead: Sequence[str]) -> list[str]:
    """Commands worth typing next, each of which runs; `instead` are the words for a model that can learn masks."""
    replaced = {"mode", "output", *(word.partition("=")[0] for word in instead)}
    words = [word for word in typed if word.partition("=")[0] not in replaced]
    if instead:
        words = [*(word for word in words if not word.startswith("model.")), *instead]
    found = [["trainer.dry_run=true"], []]
    if facts.imbalance > UNEVEN:
        chosen = task if isinstance(task, Segmentation) else Segmentation()
        if chosen.loss is SegmentationLoss.cross_entropy:
            found.append(["task.loss=both"])
        lacking = any(split == "train" for _, split in facts.absent)  # what has no pixel cannot be given a weight
        if not lacking and not chosen.balanced and chosen.class_weights is None:
            found.append(["task.balanced=true"])
    return [command([*words, *more]) for more in found]


# ---- what is learned


class _Group(NamedTuple):
    """Columns that belong together: what they tell, and how wide that of each split is."""

    head: str
    splits: dict[str, int]

    @property
    def wide(self) -> int:
        return max(len(self.head), sum(self.splits.values()))

    def line(self, cells: dict[str, str]) -> str:
        """A cell for each split, flush right."""
        return f"{''.join(f'{cells[split]:>{wide}}' for split, wide in self.splits.items()):>{self.wide}}"


def _balance(facts: MaskFacts, columns: int) -> list[str]:
    """A row a class: a bar as long as its share of the largest, its share of each split, and images that have it."""
    classes = sorted(facts.classes, key=lambda one: -one.pixels["train"])
    shown = facts.classes if len(classes) <= ALL else [*classes[:ENDS], None, *classes[-ENDS:]]
    largest, smallest = (facts.share(classes[n], "train") for n in (0, -1))
    span = share(largest) if largest == smallest else f"{share(smallest)} to {share(largest)}"
    what = f"{count(len(classes), 'class')} in {count(facts.counts['train'], 'training mask')}"
    found = labelled("classes", f"{what}, {span} of the pixels that count", columns, LABEL)
    ignored = [facts.ignored] if any(facts.ignored.pixels.values()) else []
    table = [one for one in [*shown, *ignored] if one is not None]
    name_room = min(max(width(safe(one.name)) for one in table), max(8, columns // 3))
    pixels, images = _groups(facts, table, columns - 2 - name_room)
    bar_room = min(BAR, columns - 4 - name_room - pixels.wide - (APART + images.wide if images else 0))
    bar_room = bar_room if bar_room >= SHORTEST else 0

    def line(name: str, bar: str, of_pixels: str, of_images: str) -> str:
        gap = " " * (name_room - width(name))
        bar = f"  {bar}{' ' * (bar_room - len(bar))}" if bar_room else ""
        return f"  {name}{gap}{bar}{of_pixels}{' ' * APART if images else ''}{of_images}".rstrip()

    def row(one: MaskClass) -> str:
        value = facts.share(one, "train")
        length = (
            max(1 if value else 0, round(value / largest * bar_room)) if largest and one is not facts.ignored else 0
        )
        of_pixels = pixels.line({split: share(facts.share(one, split)) for split in pixels.splits})
        of_images = images.line({split: f"{one.images[split]:,}" for split in images.splits}) if images else ""
        return line(cut(safe(one.name), name_room), "━" * length, of_pixels, of_images)

    found.append(line("", "", f"{pixels.head:>{pixels.wide}}", f"{images.head:>{images.wide}}" if images else ""))
    own = {split: split for split in facts.counts}
    found.append(line("", "", pixels.line(own), images.line(own) if images else ""))
    between = f"  … {len(classes) - 2 * ENDS:,} classes between"
    return [*found, *(between if one is None else row(one) for one in shown), *map(row, ignored)]


def _groups(facts: MaskFacts, table: Sequence[MaskClass], room: int) -> tuple[_Group, _Group | None]:
    """Shares of pixels, and images, of as many splits as there is room for."""
    splits = list(facts.counts)
    pixels = {s: 2 + max(len(s), *(len(share(facts.share(one, s))) for one in table)) for s in splits}
    images = {s: 2 + max(len(s), *(len(f"{one.images[s]:,}") for one in table)) for s in splits}
    of_pixels = _Group("share of pixels", pixels)
    for some in (splits, ["train"]):
        of_images = _Group("images with it", {split: images[split] for split in some})
        if of_pixels.wide + APART + of_images.wide <= room:
            return of_pixels, of_images
    return of_pixels if of_pixels.wide <= room else of_pixels._replace(splits={"train": pixels["train"]}), None


def share(value: float) -> str:
    """`26.4 %`; `< 0.1 %` and `0 %` are told apart."""
    return "0 %" if not value else "< 0.1 %" if value < 0.0005 else percent(value)


# ---- what may be wrong


def _problems(facts: MaskFacts, left_out: Sequence[LeftOut], columns: int) -> list[str]:
    total = facts.counts["train"]
    rare = [
        f"{safe(one.name)} ({share(facts.share(one, 'train'))} of the pixels, in {one.images['train']:,} of {total:,})"
        for one in facts.near_empty
    ]
    without: dict[str, list[str]] = {}
    for name, split in facts.absent:
        without.setdefault(name, []).append(split)
    absent = [f"{safe(name)} in {' and '.join(splits)}" for name, splits in without.items()]
    below = f"under {percent(RARE)} of the training pixels, or in few training images"
    return problems(
        [
            *unused(left_out),
            (f"no pixel of {count(len(absent), 'class')}", absent),
            (f"{count(len(rare), 'class')} with {below}", rare),
            (f"{count(len(facts.empty), 'mask')} without a pixel that counts", facts.empty),
            *alike(facts, "masks", tells=False),
        ],
        columns,
    )
