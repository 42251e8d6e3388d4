"""The refusal of masks whose values are no classes: which, how many, and what to type. Needs no torch."""

import shlex
from collections.abc import Sequence

from dltrain.config.data import MaskFolder
from dltrain.config.messages import Mistake
from dltrain.config.quote import element
from dltrain.config.ranges import shown
from dltrain.config.spec import IGNORED
from dltrain.data.mask_coding import Coding
from dltrain.data.mask_decode import Kind, unpack
from dltrain.data.mask_values import MOST_CLASSES, Found, Masks, Tally, Verdict, share
from dltrain.text import SHOWN, some

LISTED = 6  # values in a message


def refusal(settings: MaskFolder, found: Found, coding: Coding, verdict: Verdict, masks: Masks, where: str) -> Mistake:
    """What the user is told. `coding` has the values that the settings name, if they name any."""
    words = _words(settings, found, coding, verdict)
    what = _of_unknown(found, coding, masks, where) if coding.values else _of_all(found, masks, where)
    allowed = _allowed(found, coding, verdict)
    if verdict.interpolated:
        pixels = share(sum(found.values[value].pixels for value in verdict.smeared), found.pixels)
        files = _holding(masks, coding, set(verdict.smeared))
        what += (
            f"\nlooks interpolated: {len(verdict.smeared):,} values with few pixels each ({pixels} in all) lie between "
            f"or beside {_some(verdict.main, found.colors)} in {len(files):,} of {len(masks):,} masks: {some(files)}; "
            "JPEG and smooth resizing leave them"
        )
        allowed += "; best are masks made anew: saved as PNG, resized by the nearest pixel"
    return Mistake(what, allowed=allowed, type_this=words)


def _of_all(found: Found, masks: Masks, where: str) -> str:
    text = f"{where}: the masks hold {_listed(found, list(found.values), named=False)}"
    if found.colors:
        text += ", and no data.mask_colors say which class each colour is"
        colored = [file for file, mask in masks.items() if mask.kind == Kind.color]
        few = len(colored) < len(masks)
        return f"{text}; {len(colored):,} of {len(masks):,} masks have colours: {some(colored)}" if few else text
    if len(found.values) == 1:
        return f"{text} only, so that there is nothing to tell apart"
    return f"{text}, and without data.mask_values the classes are 0, 1, 2, … without a gap"


def _of_unknown(found: Found, coding: Coding, masks: Masks, where: str) -> str:
    known = {*coding.values, coding.ignored}
    unknown = [value for value in found.values if value not in known]
    files = _holding(masks, coding, set(unknown))
    lacking = [value for value in coding.values if value not in found.values]
    text = f"{where}: {len(files):,} of {len(masks):,} masks {'holds' if len(files) == 1 else 'hold'} values that are "
    text += f"no classes: {_listed(found, unknown, named=True)}"
    return text + (f"; no mask holds {_some(lacking, found.colors)}" if lacking else "")


def _holding(masks: Masks, coding: Coding, values: set[int]) -> list[str]:
    """The masks that hold one of these values, or too many to be told apart."""
    return [file for file, mask in masks.items() if mask.more or not values.isdisjoint(coding.numbers_in(mask))]


def _listed(found: Found, values: Sequence[int], *, named: bool) -> str:
    """A few values, each with its pixels and files; of many the most frequent."""
    most = sorted(values, key=lambda value: -found.values[value].pixels)
    first, rest = most[:LISTED], most[LISTED:]
    parts = [f"{_one(value, found.colors)} ({_counted(found.values[value], named=named)})" for value in sorted(first)]
    if rest or found.more.files:
        pixels = sum(found.values[value].pixels for value in rest) + found.more.pixels
        number = f"{len(rest):,}" if not found.more.files else "many"
        parts.append(f"{number} more ({pixels:,} pixels)")
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _counted(one: Tally, *, named: bool) -> str:
    pixels, files = "pixel" if one.pixels == 1 else "pixels", "file" if one.files == 1 else "files"
    text = f"{one.pixels:,} {pixels} in {one.files:,} {files}"
    if not named or one.files > SHOWN:
        return text
    return f"{text}: {some(one.names)}"


def _one(value: int, colors: bool) -> str:
    """A value as `data.mask_values` has it, a colour as `data.mask_colors` has it."""
    return shown(list(unpack(value))) if colors else str(value)


def _some(values: Sequence[int], colors: bool) -> str:
    return some([_one(value, colors) for value in values])


def _allowed(found: Found, coding: Coding, verdict: Verdict) -> str:
    key = "data.mask_colors" if found.colors else "data.mask_values"
    if len(verdict.main) > MOST_CLASSES or (len(verdict.main) < 2 and len(found.values) > MOST_CLASSES):
        return f"{MOST_CLASSES} classes at most; values that number single objects are first to be made into classes"
    if not coding.values and len(found.values) == 1:
        return "masks of two classes and more"
    what = f"{key}, {'a colour' if found.colors else 'a value'} for each class in class order"
    if coding.values:
        what = f"{_some(coding.values, found.colors)}; or {what}"
    if found.colors:
        return f"{what}; data.unknown_mask_values=ignore makes others count for nothing"
    return f"{what}; data.ignore_index or data.unknown_mask_values=ignore for what is to count for nothing"


# ---- what to type


def _words(settings: MaskFolder, found: Found, coding: Coding, verdict: Verdict) -> str:
    """The words that make these masks usable; none where nothing can be guessed."""
    classes = _classes(found, coding, verdict)
    if not 2 <= len(classes) <= MOST_CLASSES:
        return ""
    words, ignored = [], settings.ignore_index
    if _is_void(settings, found, coding, verdict):
        words, ignored = [f"data.ignore_index={IGNORED}"], IGNORED
        strays = [value for value in verdict.rest if value != IGNORED]
        classes = [value for value in classes if value != IGNORED] if strays and not coding.values else []
    kept = coding.values
    if classes and classes != list(kept):
        key, other = ("mask_colors", "mask_values") if found.colors else ("mask_values", "mask_colors")
        words.append(f"data.{key}=[{','.join(_one(value, found.colors) for value in classes)}]")
        words += [f"data.{other}=null"] if getattr(settings, other) is not None else []
        words += ["data.ignore_index=null"] if found.colors and settings.ignore_index is not None else []
        words += _names(settings, classes, kept)
    known = {*(classes or kept or verdict.main), *([ignored] if ignored is not None and not found.colors else [])}
    if found.more.files or any(value not in known for value in found.values):
        words.append("data.unknown_mask_values=ignore")
    return " ".join(words)


def _is_void(settings: MaskFolder, found: Found, coding: Coding, verdict: Verdict) -> bool:
    """Whether 255 stands beside classes without a gap, as void does in many sets."""
    if found.colors or settings.ignore_index is not None:
        return False
    if not coding.values:
        main = [value for value in verdict.main if value != IGNORED]
        return IGNORED in found.values and main == list(range(len(main))) and len(main) > 1
    there = [value for value in coding.values if value in found.values]
    return [v for v in verdict.main if v not in coding.values] == [IGNORED] and len(there) > 1


def _classes(found: Found, coding: Coding, verdict: Verdict) -> list[int]:
    """Values for the classes: those that look like some, and of the ones that were given those that occur."""
    if not coding.values:
        return list(verdict.main)
    new = [value for value in verdict.main if value not in coding.values]
    if not new:
        return list(coding.values)
    there = [value for value in coding.values if value in found.values]
    return [*there, *new] if found.colors else sorted([*there, *new])


def _names(settings: MaskFolder, classes: Sequence[int], before: Sequence[int]) -> list[str]:
    """Names for the classes: none where as many are given, else those that are given, and others to be replaced."""
    given = settings.class_names
    if given is not None and len(given) == len(classes):
        return []
    known = dict(zip(before, given, strict=True)) if given is not None and len(given) == len(before) else {}
    blank = ["background", "cell"] if len(classes) == 2 else ["background", *(f"class_{k}" for k in range(1, 256))]
    names = [known.get(value, blank[k]) for k, value in enumerate(classes)]
    word = f"data.class_names=[{','.join(map(element, names))}]"
    return [word if shlex.split(word) == [word] else shlex.quote(word)]
