"""The command line, checked against our own table before Hydra is imported: form, groups, options, keys, plain values.

A mistake carries the command as it should be, checked in its turn, so that what is printed can be pasted.
"""

from collections.abc import Iterable

from dltrain.config import forms, table
from dltrain.config.belongs import not_for, option_with, what_chooses
from dltrain.config.choices import Chosen, Key, alone, as_given, chosen, keys_of
from dltrain.config.line import Line, Slip, Word
from dltrain.config.lists import several_runs
from dltrain.config.meant import Guess, everywhere, group_with, key_names, meant, nearest_option
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import GROUPS, Config
from dltrain.config.nearest import is_near
from dltrain.config.quote import free_text, split, unquote
from dltrain.config.typed import SWEEPS, check_value, needs_multirun
from dltrain.config.value import shape_of

_OPENS_RUN = ("run", "resume")
_NETWORK = ("model", "data", "reg", "experiment", "seed", "trainer.batch_size", "trainer.micro_batch_size")
_SAY = {  # the only words that these modes listen to, and what they are about
    "compare": (("runs", "output"), "looks at runs as they are"),
    "data": ((*_NETWORK[:6], "trainer.overfit_batches", "output"), "looks at data and trains nothing"),
    "summary": ((*_NETWORK, "task", "run"), "looks at a network and trains nothing"),
}


def precheck(argv: list[str]) -> list[str]:
    """The arguments with free text quoted for Hydra.

    Raises:
        Mistake: what can be known without Hydra is wrong.
    """
    try:
        return _checked(argv)
    except Slip as slip:
        raise Mistake(slip.what, allowed=slip.allowed, nearest=slip.nearest, type_this=_to_type(slip)) from None


def _to_type(slip: Slip) -> str:
    """A command that passes: the user's own, put right as often as it takes; else only the words in question."""
    for attempt in (slip.fixed, slip.alone):
        for _ in range(8):
            if attempt is None:
                break
            try:
                _checked(attempt)
            except Slip as further:
                attempt = further.fixed
            except Mistake:
                break
            else:
                return command(attempt)
    return command(["--help", *([slip.topic] if slip.topic else [])])


def _checked(argv: list[str]) -> list[str]:
    line = forms.read(argv)
    for word in line.words:
        if word.key in GROUPS:
            _check_option(line, word)
    known = _in_force(line)
    result = list(argv)
    for word in line.words:
        if word.key.startswith(("hydra.", "hydra/")) or word.key in GROUPS:
            continue
        if word.value.startswith("{") and _has_keys(word.key, known):
            continue  # several keys at once: Hydra reads them
        key = _find(line, word, known)
        check_value(line, word, key)
        if key.free_text:
            is_list = shape_of(key.type)[1]
            result[word.index] = f"{word.key}={free_text(word.value, sweep=line.multirun, elements=is_list)}"
    _check_pairs(line)
    _check_idle(line, known)
    return result


# ---- groups


def _typed_options(line: Line) -> dict[str, list[str]]:
    return {
        word.key: [unquote(part.strip()) for part in split(word.value)] for word in line.words if word.key in GROUPS
    }


def _check_option(line: Line, word: Word) -> None:
    group, value, there = word.key, word.value.strip(), table.options(word.key)
    one_of = f"{group}={'|'.join(there)}"
    if value.startswith(SWEEPS):
        needs_multirun(line, word)
        return
    if value[:1] in ("[", "{", "(") or value.lower() in ("null", "") or value == "???":
        parts = [unquote(part.strip()) for part in split(value.strip("[](){}"))]
        real = [part for part in parts if part in there]
        default = "none" if "none" in there else there[0]
        fixed = line.replaced(word, [f"{group}={real[0] if real else default}"])
        if len(real) > 1:
            fixed = line.replaced(word, [f"{group}={','.join(real)}"], multirun=True)
        raise Slip(f"{word.text}: {group} takes one name", allowed=one_of, fixed=fixed, topic=group)
    parts = [unquote(part.strip()) for part in split(value)]
    for part in parts:
        if part not in there:
            other = group_with(part)
            name = nearest_option(group, part)
            better = f"{other}={part}" if other and not is_near(part, name) else f"{group}={name}"
            swept = [better.partition("=")[2] if p == part else p for p in parts]
            fixed = [better] if better.startswith(f"{other}=") else [f"{group}={','.join(swept)}"]
            raise Slip(
                f"{word.text}: {group} has no option {part or 'without a name'}",
                allowed=one_of,
                nearest=better,
                fixed=line.replaced(word, fixed),
                alone=[better],
                topic=group,
            )
    if len(parts) > 1:
        needs_multirun(line, word)


def opened_run(line: Line) -> Config | None:
    """The config of the run that is opened; None where there is none, or where it cannot be read: compose tells."""
    for word in line.words:
        value = unquote(word.value)
        if word.key in _OPENS_RUN and value not in ("null", "") and not line.multirun:
            from dltrain import run

            resume = word.key == "resume"
            try:
                return run.Run(run.find(value, word.key, unfinished=resume, longer=resume)).read_config()
            except Mistake:
                return None
    return None


def _in_force(line: Line) -> Chosen:
    """The options that the words choose, over those of the run that is opened."""
    saved = opened_run(line)
    groups = [group for group in GROUPS if group not in ("mode", "experiment")]
    return chosen(_typed_options(line), {group: getattr(saved, group).name for group in groups} if saved else None)


# ---- keys


def _find(line: Line, word: Word, known: Chosen) -> Key:
    """The key that a word sets."""
    group = word.key.partition(".")[0]
    modes = list(known["mode"].values())
    if word.key == group:
        found = [key for mode in modes for key in alone(mode) if key.name == word.key]
        if len(found) == len(modes):
            return found[0]
        _belongs_to_other_mode(line, word, next(iter(known["mode"])))
    elif group in known and group != "mode":
        found = [key for cls in known[group].values() for key in keys_of(cls, f"{group}.") if key.name == word.key]
        if known[group] and len(found) == len(known[group]):
            return as_given(found[0], next(iter(known[group])))
        _belongs_to_other_option(line, word, known)
    raise _unknown(line, word, known)


def find_key(line: Line, word: Word) -> Key | None:
    """The key that a word sets; None for a group, a key of Hydra, and what is none."""
    if word.key in GROUPS:
        return None
    try:
        return _find(line, word, _in_force(line))
    except Slip:
        return None


def _belongs_to_other_mode(line: Line, word: Word, mode: str) -> None:
    having = [option for option in table.options("mode") if word.key in _names(alone(table.schema("mode", option)))]
    if having:
        own = _names(alone(table.schema("mode", mode)))
        raise Slip(
            f"{word.text}: mode={mode} has no key {word.key}",
            allowed=f"with mode={mode}: {', '.join(own)}",
            nearest=f"{word.key} belongs to mode={'|'.join(having)}",
            fixed=line.with_option("mode", having[0], word),
            alone=[f"mode={having[0]}", word.text],
        )


def _belongs_to_other_option(line: Line, word: Word, known: Chosen) -> None:
    group = word.key.partition(".")[0]
    option = option_with(word.key, unquote(word.value))
    if option:
        lacking = next(name for name, cls in known[group].items() if word.key not in _names(keys_of(cls, f"{group}.")))
        having = dict.fromkeys(name for name, _, key in everywhere(group) if key.name == word.key)
        chooses = what_chooses(line, known, group, option)
        raise Slip(
            f"{word.text}: {group}={lacking} has no key {word.key.partition('.')[2]}",
            allowed=_keys_in_words(group, known),
            nearest=f"{word.key} belongs to {group}={'|'.join(having)}",
            fixed=line.without(word) if not_for(line, known, group, option) else line.with_option(*chooses, word),
            alone=["=".join(chooses), word.text],
            topic=group,
        )


def _unknown(line: Line, word: Word, known: Chosen) -> Slip:
    guess = meant(word.key, known, unquote(word.value))
    group, _, rest = word.key.partition(".")
    new = f"{guess.name}={word.value}"
    if group_with(word.key):
        guess, new = Guess(group_with(word.key), near=True), f"{group_with(word.key)}={word.key}"
    if group in known and rest:
        what = f"{word.text}: {group}={'|'.join(known[group])} has no key {rest}"
        may = _keys_in_words(group, known)
        if rest == "name":
            return Slip(
                f"{word.text}: the name comes from {group}=",
                allowed=may,
                fixed=line.replaced(word, [f"{group}={word.value}"]),
                topic=group,
            )
        if rest in known[group] or rest in table.options(group):
            guess, new = Guess(group, near=True), f"{group}={rest}"
        elif _has_keys(word.key, known):
            what = f"{word.text}: {word.key} is no key, it has keys of its own"
    else:
        what = f"{word.text}: there is no group or key {word.key} in mode={'|'.join(known['mode'])}"
        own = _names(alone(next(iter(known["mode"].values()))))
        may = f"groups {', '.join(GROUPS)}; keys that stand alone {', '.join(own)}"
    return Slip(
        what,
        allowed=may,
        nearest=new if new.partition("=")[2] in table.options(guess.name) else guess.name,
        fixed=line.replaced(word, [new]) if guess.near else None,
        alone=[new] if guess.near else None,
        topic=group if group in GROUPS else guess.name.partition(".")[0] if "." in guess.name else "",
    )


def _has_keys(name: str, known: Chosen) -> bool:
    """Whether a name stands for keys below it, as `data.augment` does."""
    group = name.partition(".")[0]
    return group in known and any(key.startswith(f"{name}.") for key in key_names(group, known))


def _names(keys: Iterable[Key]) -> list[str]:
    return [key.name for key in keys]


def _keys_in_words(group: str, known: Chosen) -> str:
    return ", ".join(key_names(group, known)) or f"{group}={'|'.join(known[group])} has no keys"


# ---- words together


def _check_idle(line: Line, known: Chosen) -> None:
    """A mode that only looks would pass over all other words. Beside a run, `overlay.py` says what may be typed."""
    mode = next(iter(known["mode"]), "")
    if mode not in _SAY or any(word.key == "run" for word in line.words):
        return
    heard, about = _SAY[mode]
    for word in line.words:
        name = word.key if word.key in heard else word.key.partition(".")[0].partition("/")[0]
        if name not in (*heard, "mode", "trust", "hydra"):
            raise Slip(
                f"{word.text}: {word.key} has no say in mode={mode}, which {about}",
                allowed=", ".join(("mode", *heard, "trust")),
                fixed=line.without(word),
            )


def _check_pairs(line: Line) -> None:
    seen: dict[str, Word] = {}
    for word in line.words:
        if word.key in seen:
            before = seen[word.key]
            if word.key == "runs":
                raise several_runs(line, [before, word])
            raise Slip(
                f"{before.text} {word.text}: {word.key} is given twice",
                allowed=f"one value; or a sweep: -m {word.key}={before.value},{word.value}",
                fixed=line.without(before),
            )
        seen[word.key] = word
    both = [seen.get(f"trainer.{name}") for name in ("epochs", "steps")]
    if both[0] and both[1] and both[1].value.strip().lower() != "null":
        raise Slip(
            f"{both[0].text} {both[1].text}: the length of a run is given twice",
            allowed="trainer.epochs or trainer.steps",
            fixed=line.without(both[0]),
            topic="trainer",
        )
