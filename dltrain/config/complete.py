"""Tab completion for bash, zsh and fish, answered from our own table: no Hydra, no torch, never a traceback.

`eval "$(dltrain --completion bash)"` makes the shell call `dltrain --complete WORD ...`, the last word being the one
at the cursor, and offer the lines that are printed.
"""

from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import get_args

from dltrain.config import table, trust
from dltrain.config.check_judge import WORDS as JUDGES
from dltrain.config.choices import Chosen, Key, alone, chosen, keys_of
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import GROUPS
from dltrain.config.nearest import nearest
from dltrain.config.value import shape_of

_RUNS = {"run", "runs", "resume", "init.source", "task.judge"}
_WORDS = {"device": ["auto", "cpu", "cuda"], "data.size": ["auto"], "trainer.threads": ["auto"]}
_FLAGS = ["--cfg", "--completion", "--help", "--multirun", "--version", "-m"]
_MOST = 200

_BASH = r"""_dltrain() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix
    local -a words
    read -a words <<< "$line" # without -r: a\ b is one word
    [[ $line == *[[:space:]] ]] && words+=("")
    word="${words[${#words[@]}-1]}"
    # bash takes = and : for the ends of words, so it wants only what stands behind the last one
    prefix="${word%"${word##*[=:]}"}"
    [[ $COMP_WORDBREAKS == *[=:]* ]] || prefix=""
    COMPREPLY=()
    while IFS= read -r word; do
        word="${word#"$prefix"}"
        [[ $word == *[[:space:]]* ]] && word="$(printf %q "$word")"
        [[ -n $word ]] && COMPREPLY+=("$word")
    done < <("${words[0]}" --complete "${words[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./,] ]] && compopt -o nospace
}
complete -F _dltrain dltrain"""

_ZSH = r"""#compdef dltrain
_dltrain() {
    local -a found open closed
    local word
    found=("${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for word in $found; do
        [[ $word == *[=./,] ]] && open+=("$word") || closed+=("$word")
    done
    (( $#open )) && compadd -S '' -- $open
    (( $#closed )) && compadd -- $closed
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _dltrain dltrain"""

_FISH = r"""complete -c dltrain -f -a '(
    set -l words (commandline -opc) (commandline -ct)
    $words[1] --complete $words[2..-1] 2>/dev/null
)'"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """What `--completion SHELL` prints, to be evaluated by that shell.

    Raises:
        Mistake: there is none for this shell.
    """
    if shell not in SCRIPTS:
        like = nearest(shell, SCRIPTS) if shell else "bash"
        raise Mistake(
            f"--completion {shell}".rstrip(),
            allowed="--completion " + "|".join(SCRIPTS),
            nearest=like,
            type_this=command(["--completion", like]),
        )
    return SCRIPTS[shell]


def complete(words: list[str]) -> list[str]:
    """Words that can stand in the place of the last one, each as a whole; none if anything is wrong."""
    try:
        before, word = words[:-1], words[-1] if words else ""
        trust.apply(before)
        offers = sorted({offer for offer in _offers(before, word) if offer.startswith(word)}, key=table.natural)
        return [offer for offer in offers if offer.isprintable()][:_MOST]
    except Exception:  # a traceback in the middle of a half-typed line helps nobody
        return []


def _offers(before: list[str], word: str) -> Iterable[str]:
    if before and before[-1] == "--completion":
        return SCRIPTS
    if before and before[-1] in ("--cfg", "-c"):
        return ["job", "hydra", "all"]
    if word.startswith("-"):
        return _FLAGS
    if before and before[-1] in ("--help", "-h"):
        return GROUPS
    typed = {key: value for key, equals, value in (w.partition("=") for w in before) if equals}
    known = chosen({group: typed[group].split(",") for group in typed if group in GROUPS})
    keys = [*(key for cls in known["mode"].values() for key in alone(cls)), *_group_keys(known)]
    name, equals, value = word.partition("=")
    if not equals:
        return _names(name, typed, keys)
    head, comma, rest = value.rpartition(",")
    head = f"{name}={head}{comma}"
    if name in GROUPS:
        return [head + option for option in table.options(name)]
    found = next((key for key in keys if key.name == name), None)
    if found is None:
        return []
    if shape_of(found.type)[1]:
        return _elements(found, name, value)
    return (head + offer for offer in _values(found, rest))


def _elements(key: Key, name: str, value: str) -> Iterable[str]:
    """An element of a list may have commas itself, as the folders of a sweep's jobs have."""
    starts = [0, *(i + 1 for i, sign in enumerate(value) if sign in "[,")] if value.startswith("[") else [0]
    for start in starts[:1] + starts[1:][-8:]:
        with suppress(OSError):  # what stands before a comma may be no folder
            for offer in _values(key, value[start:]):
                yield f"{name}={value[:start]}{offer}"


def _group_keys(known: Chosen) -> list[Key]:
    return [
        key for group in known if group != "mode" for cls in known[group].values() for key in keys_of(cls, f"{group}.")
    ]


def _names(word: str, typed: dict[str, str], keys: list[Key]) -> Iterable[str]:
    """Groups, keys that stand alone, and keys of groups: `trainer.` first, its keys once that is typed."""
    for group in GROUPS:
        if group not in typed:
            yield f"{group}="
    for key in keys:
        if key.name in typed:
            continue
        if not key.group or "." in word:
            yield f"{key.name}="
        else:
            yield f"{key.group}."


def _values(key: Key, typed: str) -> Iterable[str]:
    kind, is_list, optional = shape_of(key.type)
    if key.name in _RUNS:
        from dltrain import run

        runs = [str(folder) for folder in run.all_runs()[:_MOST]]
        words = JUDGES if key.name == "task.judge" else ()
        return [*words, "last", *runs, *(path for path in _paths(typed) if path.rstrip("/") not in runs)]
    if key.free_text:
        return _paths(typed)
    if key.name in _WORDS:
        return _WORDS[key.name]
    if is_list:
        return []
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind.__members__)
    if kind is bool:
        return ["true", "false"]
    return ["null"] if optional and type(None) in get_args(key.type) else []


def _paths(typed: str) -> Iterable[str]:
    """Folders and files that begin so; folders end in a slash."""
    head, slash, start = typed.rpartition("/")
    for entry in Path(head + slash).expanduser().iterdir():
        if not entry.name.startswith(".") or start.startswith("."):
            yield head + slash + entry.name + ("/" if entry.is_dir() else "")
