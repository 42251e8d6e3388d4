"""Which word is to blame when Hydra does not compose, whatever it says.

Hydra's messages differ from version to version and give advice that does not hold here. So nothing is read from
them: words are taken one by one, the groups first, until it no longer works.
"""

from collections.abc import Iterator

from hydra.core.override_parser.overrides_parser import OverridesParser

from dltrain.config import forms
from dltrain.config.choices import Key, chosen, keys_of
from dltrain.config.meant import key_names
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import GROUPS
from dltrain.config.nearest import nearest
from dltrain.config.overlay import option_of
from dltrain.config.precheck import find_key, opened_run, precheck
from dltrain.config.value import allowed, suggest, usual


def diagnose(argv: list[str], error: Exception) -> Mistake:
    """The mistake behind an exception of composing.

    Args:
        argv: the words that did not compose, quoted as `precheck` returns them; flags are passed over.
        error: what was raised; of its text only a YAML file's name and line are used.
    """
    words = [word for word in argv if word not in forms.FLAGS]
    try:
        precheck(words)
    except Mistake as mistake:
        return mistake
    unreadable = next((word for word in words if not _parses(word)), None)
    if unreadable is not None:
        return _unreadable(words, unreadable)
    saved = _saved_words(words)
    ordered = sorted(words, key=lambda word: not _is_group(word))
    groups = [*saved, *filter(_is_group, words)]
    for word in filter(_is_suspect, ordered):
        if not _composes([*groups, word]) and (not groups or _composes(groups)):
            return _alone(words, word, error)
    if not _composes(saved):
        return _broken(words, error)
    length = _shortest_failing(ordered, saved)
    if length is None:
        return _broken(words, error)
    guilty, before = ordered[length - 1], ordered[: length - 1]
    if _composes([*saved, guilty]):
        partner = next((one for one in before if _composes(saved + [w for w in ordered[:length] if w != one])), None)
        return _pair(words, guilty, partner or before[-1])
    return _alone(words, guilty, error)


def _parses(word: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([word])
    except Exception:
        return False
    return True


def _composes(words: list[str]) -> bool:
    from dltrain.config.compose import load, to_config

    try:
        to_config(load(words))
    except Exception:
        return False
    return True


def _shortest_failing(words: list[str], before: list[str]) -> int | None:
    """Length of the shortest beginning that does not compose, by halving; None if all of it does."""
    if _composes(before + words):
        return None
    good, bad = 0, len(words)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _composes(before + words[:middle]):
            good = middle
        else:
            bad = middle
    return bad


def _is_group(word: str) -> bool:
    key = word.partition("=")[0]
    return key in GROUPS or "/" in key


def _is_suspect(word: str) -> bool:
    """Whether a word holds what the check before Hydra passes over."""
    key, _, value = word.partition("=")
    return key.startswith("hydra.") or any(sign in value for sign in ("${", "{", "("))


def _saved_words(words: list[str]) -> list[str]:
    """The choices of the run that is opened, where the words do not choose anew."""
    cfg = opened_run(forms.read(words))
    if cfg is None:
        return []
    typed = {word.partition("=")[0] for word in words}
    groups = [group for group in GROUPS if group not in ("mode", "experiment") and group not in typed]
    return [f"{group}={option_of(group, getattr(cfg, group))}" for group in groups]


def _key_of(words: list[str], name: str) -> Key | None:
    """The key that a word sets, if it is one of ours."""
    line = forms.read(words)
    word = next((word for word in line.words if word.key == name), None)
    return find_key(line, word) if word is not None else None


def _replaced(words: list[str], old: str, *new: str) -> str:
    i = words.index(old)
    return command([*words[:i], *new, *words[i + 1 :]])


def _unreadable(words: list[str], word: str) -> Mistake:
    name = word.partition("=")[0]
    key = _key_of(words, name)
    better = usual(key) if key is not None else ""
    return Mistake(
        f"{word}: the value cannot be read",
        allowed="letters a to z, digits and /-\\+.$%*@?|_ ; any other text in quotes"
        + (f"; {allowed(key)}" if key else ""),
        nearest=f"{name}={better}" if better else "",
        type_this=_replaced(words, word, *([f"{name}={better}"] if better else [])),
    )


def _alone(words: list[str], word: str, error: Exception) -> Mistake:
    name, _, value = word.partition("=")
    key = _key_of(words, name)
    if key is not None:
        better = suggest(key, value)
        better = better if better != value else usual(key)
        return Mistake(
            f"{word}: {name} cannot be {value or 'empty'}",
            allowed=allowed(key),
            nearest=f"{name}={better}" if better else "",
            type_this=_replaced(words, word, *([f"{name}={better}"] if better else [])),
        )
    if name.startswith(("hydra.", "hydra/")):
        return Mistake(
            f"{word}: Hydra has no such key, or it cannot have this value",
            allowed="what `dltrain --cfg hydra` shows",
            type_this=_replaced(words, word),
        )
    where = _place(error)
    if value.startswith("{"):
        known = chosen({})
        below = [one for one in key_names(name.partition(".")[0], known) if one.startswith(f"{name}.")]
        return Mistake(
            f"{word}: {where or 'something in it'} does not fit",
            allowed=_allowed_at(where) or ", ".join(below),
            nearest=nearest(where, below) if where else "",
            type_this=_replaced(words, word),
        )
    return Mistake(
        f"{word}: its file does not fit the other settings{where and f', at {where}'}",
        allowed=_allowed_at(where),
        type_this=_replaced(words, word),
    )


def _pair(words: list[str], word: str, partner: str) -> Mistake:
    """Two words that compose alone and not together; what brings values of its own gives way."""
    presets = [one for one in (word, partner) if one.startswith(("experiment=", "reg="))]
    return Mistake(
        f"{partner} and {word} do not go together",
        allowed="one of the two",
        type_this=_replaced(words, presets[0] if presets else word),
    )


def _broken(words: list[str], error: Exception) -> Mistake:
    """No word is to blame: a file is, or the run's own config."""
    where = _place(error)
    what = f"the settings of `{command(words)}` do not compose{where and f', at {where}'} ({type(error).__name__})"
    return Mistake(what, allowed=_allowed_at(where), type_this=command(["--help"]))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _place(error: BaseException) -> str:
    """The key that OmegaConf was at, or the line of a YAML file."""
    for one in _chain(error):
        mark = getattr(one, "problem_mark", None)
        if mark is not None:  # an error of PyYAML
            return f"{mark.name}:{mark.line + 1}"
        key = getattr(one, "full_key", None)
        if key:
            return str(key)
    return ""


def _allowed_at(where: str) -> str:
    group = where.partition(".")[0]
    keys = [key for cls in chosen({}).get(group, {}).values() for key in keys_of(cls, f"{group}.")]
    return next((allowed(key) for key in keys if key.name == where), "")
