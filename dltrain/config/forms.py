"""The form of the command line: flags, and words that read `key=value`."""

from pathlib import Path

from dltrain.config import table
from dltrain.config.choices import chosen
from dltrain.config.line import Line, Slip, Word
from dltrain.config.lists import list_in_pieces
from dltrain.config.meant import Guess, example, group_with, key_names, meant
from dltrain.config.mode import GROUPS
from dltrain.config.nearest import is_near, nearest

FLAGS = {  # flag -> whether a word follows it
    "-m": False,
    "--multirun": False,
    "-h": False,
    "--help": False,
    "--version": False,
    "--cfg": True,
    "-c": True,
    "--resolve": False,
    "--completion": True,
}
_CFG = ("job", "hydra", "all")
_ALLOWED_FLAGS = "-m, --help [GROUP], --version, --cfg job, --completion SHELL"
# Flags of Hydra that bring code or configs from outside, or have no meaning here.
_REFUSED = {
    *("--experimental-rerun", "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"),
    *("--hydra-help", "--run", "-r", "--info", "-i", "--shell-completion", "-sc", "--package", "-p"),
}


def read(argv: list[str]) -> Line:
    """Take the arguments apart.

    Raises:
        Slip: one of them is neither a flag nor `key=value`.
    """
    line = Line(list(argv))
    i = 0
    while i < len(argv):
        text = argv[i]
        if text in FLAGS:
            line.flags.append(text)
            i += _flag(line, i)
            continue
        key, equals, value = text.partition("=")
        if text.startswith("-"):
            raise _dashes(line, i)
        if text.startswith(("+", "~")):
            raise _signs(line, i)
        if not equals or not key.strip():
            raise _no_equals(line, i)
        if key != key.strip() or (not value and _following(line, i) is not None):
            raise _spaces(line, i)
        if not key.startswith(("hydra.", "hydra/")) and any(sign in key for sign in "/@:"):
            raise _path(line, i)
        line.words.append(Word(i, key, value))
        i += 1
    return line


def _flag(line: Line, i: int) -> int:
    """How many arguments a flag takes up."""
    flag = line.argv[i]
    if flag in ("-h", "--help"):
        return 2 if _following(line, i) is not None else 1
    if not FLAGS[flag]:
        return 1
    value = line.argv[i + 1] if i + 1 < len(line.argv) else ""
    if flag in ("--cfg", "-c") and value not in _CFG:
        count = 1 if _following(line, i) is None else 2
        what = f"{flag} {value}" if count == 2 else f"{flag}: a word is missing"
        raise Slip(what, allowed=f"{flag} {'|'.join(_CFG)}", fixed=_put(line, i, count, flag, "job"))
    if not value or value.startswith("-"):
        raise Slip(f"{flag}: a word is missing", allowed=_ALLOWED_FLAGS, fixed=_put(line, i, 1, flag, "bash"))
    return 2


def _put(line: Line, i: int, count: int, *new: str) -> list[str]:
    return [*line.argv[:i], *new, *line.argv[i + count :]]


def _following(line: Line, i: int) -> str | None:
    """The next argument, if it can only be a value."""
    text = line.argv[i + 1] if i + 1 < len(line.argv) else ""
    negative = text[:1] == "-" and text[1:2].isdigit()
    return text if text and "=" not in text and (negative or text[0] not in "-+~") else None


def _guess(name: str, value: str | None) -> Guess:
    """The group or key behind a typed name, whatever options are chosen."""
    return meant(name.strip().strip("-"), chosen({}), value) if name.strip("- ") else Guess("", near=False)


def _topic(name: str) -> str:
    return name.partition(".")[0] if name.partition(".")[0] in GROUPS else ""


def _dashes(line: Line, i: int) -> Slip:
    """`--epochs 3`, `--epochs=3`, unknown flags."""
    text = line.argv[i]
    name, equals, value = text.partition("=")
    flag = nearest(name, [f for f in FLAGS if f.startswith("--")])
    given = value if equals else _following(line, i)
    guess = _guess(name, given)
    if name in _REFUSED or not guess.near or (given is None and is_near(name[2:], flag[2:])):
        like = flag if is_near(name[2:], flag[2:]) and name not in _REFUSED else ""
        fixed = _put(line, i, 1, flag) if like and not FLAGS[flag] else None
        if name in ("-sc", "--shell-completion"):
            like, fixed = "--completion", ["--completion", "bash"]
        return Slip(f"{text}: no such flag", allowed=_ALLOWED_FLAGS, nearest=like, fixed=fixed)
    count = 1 if equals or given is None else 2
    new = f"{guess.name}={example(guess.name) if given is None else given}"
    return Slip(
        f"{' '.join(line.argv[i : i + count])}: settings are typed as key=value, without dashes",
        allowed=f"key=value, and the flags {_ALLOWED_FLAGS}",
        nearest=guess.name,
        fixed=_put(line, i, count, new),
        alone=[new],
        topic=_topic(guess.name),
    )


def _signs(line: Line, i: int) -> Slip:
    """`+key=value`, `++key=value`, `~key`."""
    text = line.argv[i]
    sign = text[: len(text) - len(text.lstrip("+~"))]
    name, equals, value = text[len(sign) :].partition("=")
    guess = _guess(name.partition("@")[0].replace("/", "."), value if equals else None)
    group = _topic(name) or _topic(guess.name)
    known = chosen({})
    may = ", ".join(key_names(group, known)) if "." in name and group in known else "key=value, group=option"
    if sign.startswith("~"):
        off = [f"{guess.name}=none"] if guess.name in GROUPS and "none" in table.options(guess.name) else []
        return Slip(
            f"{text}: nothing can be taken away, every key has a value",
            allowed=may,
            nearest=guess.name,
            fixed=_put(line, i, 1, *off),
            topic=group,
        )
    new = [f"{guess.name}={value}"] if guess.near and equals else None
    return Slip(
        f"{text}: nothing can be added; every key is there, and is set without {sign}",
        allowed=may,
        nearest=guess.name,
        fixed=_put(line, i, 1, *new) if new else None,
        alone=new,
        topic=group,
    )


def _no_equals(line: Line, i: int) -> Slip:
    """`eval run=last`, `seed 3`, `lenet5`, `seed:3`, `seed = 3`, a folder."""
    text, following = line.argv[i], _following(line, i)
    if text and i + 1 < len(line.argv) and line.argv[i + 1].startswith("="):
        return _spaces(line, i)
    if slip := list_in_pieces(line, i):
        return slip
    what, may, count = f"{text}: settings are typed as key=value", "key=value", 1
    if not text.strip():
        return Slip("an empty word", allowed=may, fixed=_put(line, i, 1))
    if text in ("help", "version"):
        return Slip(f"{text}: a flag is typed with dashes", nearest=f"--{text}", fixed=_put(line, i, 1, f"--{text}"))
    name, colon, value = text.partition(":")
    given = value if colon else following
    guess, verb = _guess(name, given), nearest(text, table.options("mode"))
    if group_with(text):
        new = [f"{group_with(text)}={text}"]
        like = new[0]
    elif Path(text).is_dir():
        new, like = ["data=folder", f"data.root={text}"], "data.root"
    elif is_near(text, verb) and following is None and not (guess.near and colon):
        new, like = [f"mode={verb}"], f"mode={verb}"
        may = f"mode={'|'.join(table.options('mode'))}"
    elif guess.near:
        count = 1 if colon or following is None else 2
        what = f"{' '.join(line.argv[i : i + count])}: settings are typed as key=value"
        new, like = [f"{guess.name}={example(guess.name) if given is None else given}"], guess.name
    else:
        return Slip(what, allowed=may, nearest=guess.name)
    return Slip(what, allowed=may, nearest=like, fixed=_put(line, i, count, *new), alone=new)


def _spaces(line: Line, i: int) -> Slip:
    """`seed = 3`, `seed= 3`, `seed =3`: no space around the sign."""
    rest = line.argv[i : i + 3]
    lone = len(rest) == 3 and rest[1] == "="
    split = len(rest) > 1 and (rest[1].startswith("=") or rest[0].endswith("="))
    count = 3 if lone else 2 if split else 1
    key, _, value = "".join(part.strip() for part in rest[:count]).partition("=")
    new = f"{key.strip()}={value.strip()}"
    return Slip(
        f"{' '.join(rest[:count])}: no space may stand around =",
        allowed="key=value",
        fixed=_put(line, i, count, new),
        alone=[new],
    )


def _path(line: Line, i: int) -> Slip:
    """`model/dropout=0.5`, `model@x=mlp`: a key is typed with points, and a group has one place."""
    if slip := list_in_pieces(line, i):
        return slip
    text = line.argv[i]
    name, _, value = text.partition("=")
    name = name.partition("@")[0].replace("/", ".").replace(":", ".").strip(".")
    group, _, rest = name.partition(".")
    if group in GROUPS and rest in table.options(group):
        new = f"{group}={rest}"
    else:
        guess = _guess(name, value)
        new = f"{guess.name if guess.near else name}={value}"
    return Slip(
        f"{text}: a key is typed with points, a group by its name alone",
        allowed="group=option, group.key=value",
        nearest=new.partition("=")[0],
        fixed=_put(line, i, 1, new),
        alone=[new],
        topic=_topic(group),
    )
