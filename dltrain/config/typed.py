"""Whether a typed word has values that its key can take, before Hydra sees them."""

from collections.abc import Callable

from dltrain.config import parse as grammars
from dltrain.config.choices import Key
from dltrain.config.line import Line, Slip, Word
from dltrain.config.messages import Mistake
from dltrain.config.quote import is_quoted, split, unquote
from dltrain.config.value import allowed, fits, parse, shape_of, suggest, undecided, usual

# Strings with a grammar of their own.
_GRAMMARS: dict[str, Callable[[str], object]] = {
    "device": grammars.device_name,
    "data.size": grammars.image_size,
    "data.crop": lambda text: grammars.image_size(text, "data.crop"),
    "trainer.threads": grammars.thread_count,
    "trainer.save_every": grammars.save_interval,
    "trainer.max_time": grammars.seconds,
}
SWEEPS = ("choice(", "range(", "glob(", "interval(", "shuffle(", "tag(")


def needs_multirun(line: Line, word: Word) -> None:
    """Raise Slip where several values are typed for a single run."""
    if not line.multirun:
        raise Slip(
            f"{word.text}: several values make a sweep, and -m is not there",
            allowed="one value, or -m to run each of them",
            fixed=["-m", *line.argv],
            alone=["-m", word.text],
        )


def check_value(line: Line, word: Word, key: Key) -> None:
    """Raise Slip for a value, or one of a sweep's values, that does not fit its key."""
    is_list = shape_of(key.type)[1]
    if key.free_text:
        if unquote(word.value) == "???":
            raise Slip(
                f"{word.text}: ??? stands for a missing value",
                allowed=allowed(key),
                fixed=line.replaced(word, [f"{word.key}=./???"]),
            )
        if not is_list:
            return
        parts = split(word.value) if line.multirun else [word.value]
    else:
        parts = split(word.value)
        if any(part.strip().startswith(SWEEPS) for part in parts) or (len(parts) > 1 and not is_list):
            needs_multirun(line, word)
        if len(parts) > 1 and is_list and not line.multirun:
            raise _unfit(line, word, key, word.value)
    for part in parts:
        if not fits(key, part) and not (part.strip().startswith(SWEEPS) and not is_quoted(part)):
            raise _unfit(line, word, key, part)
        if key.name in _GRAMMARS and not undecided(part) and parse(part) is not None:
            try:
                _GRAMMARS[key.name](unquote(part.strip()))
            except Mistake as mistake:
                raise _unfit(line, word, key, part, mistake.allowed) from None


def _unfit(line: Line, word: Word, key: Key, part: str, may: str = "") -> Slip:
    parts = split(word.value)
    inner = split(part.strip()[1:-1]) if part.strip()[:1] == "[" else []
    if not shape_of(key.type)[1] and len(inner) > 1 and all(fits(key, p) for p in inner):
        new = f"{word.key}={','.join(p.strip() for p in inner)}"
        return Slip(
            f"{word.text}: one value is wanted, not a list",
            allowed=f"{allowed(key)}; or -m and several of them",
            fixed=line.replaced(word, [new], multirun=True),
        )
    better = usual(key) if may else suggest(key, part)
    new = f"{word.key}={better}"
    if part != word.value and line.multirun:
        new = f"{word.key}={','.join(dict.fromkeys(better if p == part else p.strip() for p in parts))}"
    unit = key.field.metadata.get("unit")
    return Slip(
        f"{word.text}: {word.key} cannot be {part.strip() or 'empty'}",
        allowed=may or allowed(key) + (f" ({unit})" if unit else ""),
        nearest=f"{word.key}={better}" if better else "",
        fixed=line.replaced(word, [new]) if better else None,
        alone=[new],
        topic=key.group,
    )
