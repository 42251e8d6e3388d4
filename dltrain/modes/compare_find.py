"""Several runs at once, as `runs=` names them: run folders, folders that hold runs, patterns, `last`. No torch."""

import difflib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dltrain.config.lists import runs_word
from dltrain.config.messages import Mistake, command
from dltrain.report.table import near
from dltrain.run import all_runs, find
from dltrain.text import safe_text

DEEPEST = 4  # `outputs` itself holds the runs of sweeps at this depth
MOST_RUNS = 1000
MOST_FOLDERS = 20_000


def find_runs(elements: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The runs that the elements of `runs=` name, each once; and a line for each that was named and is left out.

    Those below a folder come in the order of their numbers. Raises Mistake where an element names none, where a run
    is named twice, and where less than two are found.
    """
    found: dict[Path, Path] = {}
    singly: set[Path] = set()
    notes: list[str] = []
    for element, paths in _resolved(elements):
        alone = len(paths) == 1 and paths[0] == element
        for path in paths:
            real = path.resolve()
            if alone and real in singly:
                what = f"runs=[…]: {safe_text(str(path))} is named twice"
                raise Mistake(what, allowed="each run once", type_this=_pair(list(found.values())))
            if real in found:
                notes.append(f"{near(path)} was named and found in a folder, and counts once")
            found.setdefault(real, path)
            singly |= {real} if alone else set()
    if len(found) < 2:
        raise _too_few(elements, list(found.values()))
    return list(found.values()), notes


def _resolved(elements: Sequence[str]) -> Iterator[tuple[Path, list[Path]]]:
    """(what was typed, the runs that it names). A path with commas in it is one element again."""
    rest = list(elements)
    while rest:
        most = next((n for n in range(len(rest), 1, -1) if _is_there(",".join(rest[:n]))), 1)
        text, rest = ",".join(rest[:most]), rest[most:]
        if "," in text and most == 1 and not _is_there(text):
            parts = [part.strip() for part in text.split(",")]
            if all(map(_is_there, parts)):  # `runs=a,b`: text without brackets is one element
                rest = [*parts, *rest]
                continue
        yield from _named(text, elements)


def _is_there(text: str) -> bool:
    return os.path.exists(Path(text).expanduser())  # noqa: PTH110 - Path.exists raises for names that are too long


def _named(text: str, elements: Sequence[str]) -> Iterator[tuple[Path, list[Path]]]:
    path = Path(text).expanduser()
    if text != "last" and not _is_there(text) and glob.has_magic(text):
        matches = [Path(match) for match in sorted(glob.glob(str(path)), key=_by_number)]  # noqa: PTH207
        runs = [run for match in matches if match.is_dir() for run in _below(match)]
        if not runs:
            raise Mistake(f"runs={safe_text(text)}: no run matches", allowed="a pattern that matches folders of runs")
        yield path, runs
        return
    if text != "last" and path.is_dir() and (runs := _below(path)):
        yield path, runs
        return
    try:
        run = find(text, "runs")
    except Mistake as mistake:
        beside = difflib.get_close_matches(path.name, _names(path.parent), n=1)
        if beside and text != "last" and not mistake.nearest:
            mistake.nearest = str(path.with_name(beside[0]))
        if mistake.nearest:
            right = [Path(mistake.nearest) if one == text else Path(one) for one in elements]
            mistake.type_this = command(["mode=compare", runs_word(right)])
        raise
    yield run, [run]


def _below(folder: Path) -> list[Path]:
    """The runs in a folder, at most DEEPEST below; or the folder itself if it is a run. Links are not followed."""
    runs: list[Path] = []
    level, seen = [folder], 0
    for depth in range(DEEPEST + 1):
        following: list[Path] = []
        for path in level:
            if (path / "config.json").is_file():
                runs.append(path)
            elif depth < DEEPEST:
                following += _folders(path)
        seen += len(following)
        if len(runs) > MOST_RUNS or seen > MOST_FOLDERS:
            raise Mistake(
                f"runs={safe_text(str(folder))} holds more than {MOST_RUNS:,} runs or {MOST_FOLDERS:,} folders",
                allowed="the folder of a sweep, or of a day",
            )
        level = following
    return sorted(runs, key=_by_number)


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [path / one.name for one in entries if one.is_dir(follow_symlinks=False) and one.name[0] != "."]
    except OSError:
        return []


def _by_number(path: Path | str) -> tuple[list[tuple[int, str]], str]:
    """Digits by value: job 10 of a sweep comes after job 9."""
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], str(path)


def _names(folder: Path) -> list[str]:
    """Names of the runs in a folder."""
    return [path.name for path in _folders(folder) if (path / "config.json").is_file()]


def _pair(found: Sequence[Path]) -> str:
    """A command that compares: these runs, with the newest other one if it is but one; or the newest sweep or two."""
    others = [path for path in all_runs() if path.resolve() not in {one.resolve() for one in found}]
    pair = list(found) if len(found) > 1 else [*others[:1], *found] if found else others[:2][::-1]
    if not found and others and len(_names(others[0].parent)) > 1 and "sweeps" in others[0].parts:
        pair = [others[0].parent]
    return (
        command(["mode=compare", runs_word(pair)]) if len(pair) > 1 or (not found and pair) else "dltrain -m seed=0,1"
    )


def _too_few(elements: Sequence[str], found: Sequence[Path]) -> Mistake:
    what = "mode=compare needs runs" if not elements else f"runs={safe_text(str(found[0]))} is one run: it has no other"
    return Mistake(
        what,
        allowed="runs=[RUN,RUN,…], or a folder that holds runs, such as a sweep's",
        type_this=_pair(found),
    )
