"""Which classes the values of masks stand for, by the settings and by what the scan has found. Needs no torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dltrain.config.data import MaskFolder, UnknownValues
from dltrain.config.messages import Mistake
from dltrain.config.spec import IGNORED
from dltrain.data.mask_coding import Coding
from dltrain.data.mask_decode import Kind, MaskHeader, unpack
from dltrain.text import SHOWN, some

Masks = Mapping[str, MaskHeader]  # by file
MOST_CLASSES = IGNORED  # 255 is the number of pixels that count for nothing
FLAT = 10  # a value's pixels lie in areas of it if one in so many has four neighbours of that value
FREQUENT = 100  # a value is frequent if one in so many pixels has it
MANY = 8  # values between others, from which on values 0, 1, 2, … are not taken for classes
NEAR = 16  # steps by which JPEG moves a value that it does not blur
COMPARED = 24  # frequent values at most, between pairs of which others are looked for


@dataclass
class Tally:
    """One value over all masks."""

    pixels: int = 0
    flat: int = 0  # pixels whose four neighbours have the value too
    files: int = 0
    names: list[str] = field(default_factory=list)  # the first of the files

    def add(self, file: str, pixels: int, flat: int) -> None:
        self.pixels += pixels
        self.flat += flat
        self.files += 1
        if len(self.names) < SHOWN:
            self.names.append(file)


@dataclass
class Found:
    """The values, or colours, of all masks; `more` of a file were too many to be told apart."""

    values: dict[int, Tally]
    more: Tally
    pixels: int
    colors: bool


@dataclass(frozen=True)
class Verdict:
    """Values that look like classes, and the rest; `smeared` of it lie between classes or close to one."""

    main: list[int]
    rest: list[int]
    smeared: list[int]

    @property
    def interpolated(self) -> bool:
        return len(self.main) > 1 and len(self.smeared) >= 3 and 10 * len(self.smeared) >= 9 * len(self.rest)


def tally(masks: Masks, coding: Coding) -> Found:
    """Count the values of all masks. Raises Mistake for a mask that has none of the kind."""
    found, more, pixels = dict[int, Tally](), Tally(), 0
    for file, mask in masks.items():
        try:
            numbers = coding.numbers_in(mask)
        except ValueError as error:
            raise Mistake(f"{some([file])} {error}", allowed="masks that are all of one kind") from None
        of_file: dict[int, tuple[int, int]] = {}  # two indexes of a palette may have one colour
        for number, count in zip(numbers, mask.counts, strict=True):
            before = of_file.get(number, (0, 0))
            of_file[number] = (before[0] + count.pixels, before[1] + count.flat)
        for number, (there, flat) in of_file.items():
            found.setdefault(number, Tally()).add(file, there, flat)
        if mask.more:
            more.add(file, mask.more_pixels, 0)
        pixels += mask.height * mask.width
    return Found(dict(sorted(found.items())), more, pixels, coding.colors)


def coding_of(settings: MaskFolder, masks: Masks) -> Coding:
    """What the settings say of the values; without `values` where they leave them to the masks."""
    kinds = {mask.kind for mask in masks.values()}
    others = settings.unknown_mask_values == UnknownValues.ignore
    if settings.mask_colors is not None:
        colors = tuple(red + (green << 8) + (blue << 16) for red, green, blue in settings.mask_colors)
        return Coding(colors, colors=True, ignore_others=others)
    if Kind.color in kinds:
        return Coding((), colors=True)
    values: Collection[int] = settings.mask_values or ()
    if settings.mask_values is None and settings.class_names is not None:
        values = range(len(settings.class_names))
    elsewhere = values or {c.value for mask in masks.values() if mask.kind != Kind.bits for c in mask.counts}
    white = Kind.bits in kinds and 255 in elsewhere and 1 not in elsewhere
    return Coding(tuple(values), settings.ignore_index, white_bits=white, ignore_others=others)


def classes_of(settings: MaskFolder, masks: Masks, where: str) -> tuple[Coding, tuple[str, ...], tuple[str, ...]]:
    """The coding of the masks, the names of the classes, and notes for the screen.

    Raises Mistake, beginning with `where`, if a value is no class, and says what to type.
    """
    from dltrain.data.mask_refusal import refusal  # it builds on this file

    coding = coding_of(settings, masks)
    found = tally(masks, coding)
    if not coding.values:
        numbers = [value for value in found.values if value != coding.ignored]
        plain = not coding.colors and numbers == list(range(len(numbers))) and 2 <= len(numbers) <= MOST_CLASSES
        verdict = judge(found, coding.ignored)
        if not plain or found.more.files or (verdict.interpolated and len(verdict.smeared) >= MANY):
            raise refusal(settings, found, coding, verdict, masks, where)
        coding = replace(coding, values=tuple(numbers))
    unknown = [value for value in found.values if value not in coding.values and value != coding.ignored]
    none = not any(value in found.values for value in coding.values)
    if none or ((unknown or found.more.files) and not coding.ignore_others):
        raise refusal(settings, found, coding, judge(found, coding.ignored), masks, where)
    names = tuple(settings.class_names or (shown_value(value, coding.colors) for value in coding.values))
    return coding, names, (*_ignored(found, coding, unknown), *_palettes(masks, coding))


def shown_value(value: int, colors: bool) -> str:
    """A value, or a colour as `#ff0000`."""
    return "#" + "".join(f"{part:02x}" for part in unpack(value)) if colors else str(value)


def share(pixels: int, of: int) -> str:
    """In percent, with two digits."""
    return f"{100 * pixels / of:.2g} %"


def _ignored(found: Found, coding: Coding, unknown: Sequence[int]) -> tuple[str, ...]:
    """How many pixels count for nothing, and why."""
    notes = []
    if coding.ignored in found.values:
        part = share(found.values[coding.ignored].pixels, found.pixels)
        notes.append(f"{part} of the masks' pixels count for nothing (data.ignore_index={coding.ignored})")
    elif coding.ignored is not None:
        notes.append(f"no mask holds data.ignore_index={coding.ignored}")
    if unknown or found.more.files:
        pixels = sum(found.values[value].pixels for value in unknown) + found.more.pixels
        listed = some([shown_value(value, coding.colors) for value in unknown]) or "in masks of very many"
        what = "pixel" if pixels == 1 else "pixels"
        notes.append(
            f"{pixels:,} {what} ({share(pixels, found.pixels)}) with values that are no classes, {listed}, count for "
            "nothing (data.unknown_mask_values=ignore)"
        )
    return tuple(notes)


def absent(coding: Coding, names: Sequence[str], masks: Masks) -> tuple[str, ...]:
    """The classes that no training mask holds, as a line for the screen."""
    there = {number for mask in masks.values() for number in coding.numbers_in(mask)}
    lacking = [name for name, value in zip(names, coding.values, strict=True) if value not in there]
    return (f"no training mask holds {some(lacking)}",) if lacking else ()


def refuse_void(
    settings: MaskFolder, coding: Coding, splits: Mapping[str, Masks], where: str, by_seed: bool
) -> tuple[str, ...]:
    """Raise Mistake if no pixel of train or of val is of a class; a note for test, which only measures.

    `by_seed`: the user has not split the set.
    """
    known = set(coding.values)
    void = [
        name
        for name, masks in splits.items()
        if not any(known & set(coding.numbers_in(mask)) for mask in masks.values())
    ]
    if not void:
        return ()
    what = f"every pixel of {' and of '.join(void)} counts for nothing"
    if void == ["test"]:
        return (f"{what}: there is nothing to measure in it",)
    masks = splits[void[0]]
    there = {number for mask in masks.values() for number in coding.numbers_in(mask)}
    words, more = "", ""
    if coding.ignored in there:
        what += f", being {coding.ignored} (data.ignore_index={coding.ignored})"
        if settings.class_names is None and len(coding.values) < MOST_CLASSES:
            values = ",".join(map(str, sorted({*coding.values, coding.ignored})))
            words, more = f"data.ignore_index=null data.mask_values=[{values}]", f"; or {coding.ignored} as a class"
    elif coding.ignore_others:
        what += " (data.unknown_mask_values=ignore)"
        words, more = "data.unknown_mask_values=stop", "; stop names the values that are none"
    if by_seed and not words:
        more += "; or another seed, which splits otherwise"
    raise Mistake(f"{where}: {what}", allowed=f"masks of {void[0]} with pixels of a class{more}", type_this=words)


def _palettes(masks: Masks, coding: Coding) -> tuple[str, ...]:
    """Where one index has different colours in different files, it may be that the colours are what is meant."""
    if coding.colors:
        return ()
    first: dict[int, tuple[int, str]] = {}
    for file, mask in masks.items():
        for count in mask.counts if mask.kind == Kind.palette else ():
            color, before = first.setdefault(count.value, (count.color, file))
            if color != count.color:
                one, other = shown_value(color, True), shown_value(count.color, True)
                return (
                    f"index {count.value} of the palette is {one} in {some([before])} and {other} in {some([file])}: "
                    "the index counts; data.mask_colors reads colours",
                )
    return ()


# ---- what looks like a class


def judge(found: Found, ignored: int | None) -> Verdict:
    """Part the values into those that look like classes and the rest.

    Classes lie in areas; what blurring leaves lies along edges, so that its pixels have other values beside them.
    """
    values = {value: one for value, one in found.values.items() if value != ignored}
    solid = [value for value, one in values.items() if FLAT * one.flat >= one.pixels > 0]
    edge = _Between(_most(solid, values), found.colors)
    often = [v for v, one in values.items() if FREQUENT * one.pixels >= found.pixels and not edge(v)]
    main = sorted({*solid, *often})
    if len(main) < 2 and len(values) <= MANY:
        main = list(values)
    rest = [value for value in values if value not in set(main)]
    if len(rest) >= MANY and len(rest) > len(main):  # beside edges, JPEG leaves small areas of nearly the value
        main = [v for v in main if not _beside(v, main, values, found.colors)]
        rest = [value for value in values if value not in set(main)]
    if not main:
        return Verdict([], rest, [])
    reach = [
        (min(part) - NEAR, max(part) + NEAR) for part in zip(*(_parts(v, found.colors) for v in main), strict=True)
    ]
    smeared = [v for v in rest if all(a <= p <= b for p, (a, b) in zip(_parts(v, found.colors), reach, strict=True))]
    return Verdict(main, rest, smeared)


def _most(values: Iterable[int], counts: Mapping[int, Tally]) -> list[int]:
    return sorted(values, key=lambda value: -counts[value].pixels)[:COMPARED]


def _parts(value: int, colors: bool) -> tuple[int, ...]:
    return unpack(value) if colors else (value,)


def _apart(one: int, other: int, colors: bool) -> int:
    return max(abs(a - b) for a, b in zip(_parts(one, colors), _parts(other, colors), strict=True))


def _beside(value: int, main: Sequence[int], counts: Mapping[int, Tally], colors: bool) -> bool:
    """Whether a far more frequent value is close."""
    return any(
        counts[other].pixels >= 10 * counts[value].pixels and _apart(value, other, colors) <= NEAR for other in main
    )


class _Between:
    """Whether a value lies on the line between two of some values, as blurring leaves it."""

    def __init__(self, ends: Sequence[int], colors: bool) -> None:
        self.colors = colors
        self.ends = [_parts(value, colors) for value in ends]

    def __call__(self, value: int) -> bool:
        point = _parts(value, self.colors)
        return point not in self.ends and any(
            self._on(point, a, b) for i, a in enumerate(self.ends) for b in self.ends[:i]
        )

    def _on(self, point: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
        along = [y - x for x, y in zip(a, b, strict=True)]
        length = sum(d * d for d in along)
        t = sum((p - x) * d for p, x, d in zip(point, a, along, strict=True)) / length
        off = max(abs(p - x - t * d) for p, x, d in zip(point, a, along, strict=True))
        return 0 < t < 1 and off <= (NEAR if self.colors else 0.5)
