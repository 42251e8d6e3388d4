"""A table of images: one row a file, with its class or with real values. Needs no torch."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from shlex import quote as for_shell

import numpy as np

from dltrain.config.data import Csv
from dltrain.config.messages import Mistake
from dltrain.data.columns import by_split, is_file, natural, numbered, refuse_parted, told_of
from dltrain.data.csv_rows import Table, as_list, read_table
from dltrain.data.cut import Targets
from dltrain.data.decode import SUFFIXES
from dltrain.data.files import Listed, open_files, root_of
from dltrain.data.imageset import ImageSet, Say
from dltrain.data.layout import OTHER_NAMES, SPLITS
from dltrain.data.scan import Stat
from dltrain.data.sizes import SizeRule
from dltrain.text import safe_text, some

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
LARGEST = float(np.finfo(np.float32).max)


def open_csv(settings: Csv, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers count the rows whose images can be read, in the order of the table. Raises Mistake."""
    path = root_of(settings)
    shown = safe_text(str(path))
    with told_of(f"data.root={shown}"):
        listed = list_files(settings, path)
    listed.where = shown
    return open_files(settings, listed, suits, seed, say)


def list_files(settings: Csv, path: Path) -> Listed:
    """What the table says, every row of it checked. Raises Mistake."""
    table = read_table(path, _wanted(settings))
    problems = _Problems(len(table.rows))
    files, stats = _files(table, settings.file, path.parent, problems)
    targets, class_names = _targets(table, settings, problems)
    splits = None if settings.split is None else _splits(table, settings.split, problems)
    groups = None if settings.group is None else _filled(table, settings.group, problems)
    problems.refuse()
    found = {"train": np.arange(len(files))} if splits is None else by_split(splits)
    if groups is not None:
        refuse_parted(found, groups)
    return Listed(
        root=path.parent,
        files=files,
        stats=stats,
        found=found,
        targets=targets,
        class_names=class_names,
        value_names=settings.values or (),
        groups=None if groups is None else numbered(groups),
        notes=_notes(table, settings, class_names),
    )


def _wanted(settings: Csv) -> dict[str, list[str]]:
    """The columns that each key names."""
    learned = {"label": [settings.label]} if settings.values is None else {"values": settings.values}
    others = {"split": settings.split, "group": settings.group}
    return {"file": [settings.file], **learned, **{key: [name] for key, name in others.items() if name is not None}}


@dataclass
class _Problems:
    """What is wrong in which lines; told together, so that a table is mended once."""

    rows: int
    found: dict[str, list[str]] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, line: int, text: str = "", hint: str = "") -> None:
        """`text` is as it stands in the table; `hint` says how to mend this."""
        self.found.setdefault(what, []).append(f"line {line}" + (f" ({safe_text(text, 80)})" if text else ""))
        if hint:
            self.hints[what] = max(self.hints.get(what, ""), hint, key=len)  # the one that says most

    def refuse(self) -> None:
        """Raise Mistake if there are any."""
        if self.found:
            lines = [f"{len(rows):,} of {self.rows:,} rows: {what}: {some(rows)}" for what, rows in self.found.items()]
            raise Mistake(
                "\n".join(["it cannot be used as it is", *lines]), allowed="\n".join(dict.fromkeys(self.hints.values()))
            )


def _files(table: Table, column: str, folder: Path, problems: _Problems) -> tuple[list[str], dict[str, Stat]]:
    """Paths as the table has them, relative to its folder, and size and time of each."""
    files: list[str] = []
    stats: dict[str, Stat] = {}
    first_line: dict[str, int] = {}
    for line, cell in table.column(column):
        name = "/".join(part for part in cell.split("/") if part not in ("", "."))
        if not name:
            problems.add("no file name", line, hint=f"a file name in every cell of {safe_text(column)}")
        elif cell.startswith("/"):
            problems.add("an absolute path", line, cell, f"paths relative to {safe_text(str(folder))}")
        elif name in first_line:
            hint = "one row a file; several numbers of one image are several columns, for data.values"
            problems.add("a file that another row has", line, f"{cell}, as in line {first_line[name]}", hint)
        else:
            first_line[name] = line
            found = _stat(folder, name, line, problems)
            if found is not None:
                files.append(name)
                stats[name] = found
    return files, stats


def _stat(folder: Path, name: str, line: int, problems: _Problems) -> Stat | None:
    try:
        found = os.lstat(folder / name)
    except (OSError, ValueError):  # ValueError: a null byte
        what = "a file that is not there"
        problems.add(what, line, name, "" if what in problems.hints else _near(folder, name))
        return None
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "a folder" if stat.S_ISDIR(found.st_mode) else "a device"
        problems.add(f"{what}, and only files themselves are read", line, name, "the files themselves")
        return None
    return found.st_size, found.st_mtime_ns


def _near(folder: Path, name: str) -> str:
    """What may have been meant by a file that is not there."""
    hint = f"paths relative to {safe_text(str(folder))}, of files that are there"
    other = name.replace("\\", "/")
    for near in (*(f"{name}{suffix}" for suffix in sorted(SUFFIXES)), other, PurePosixPath(other).name):
        if near != name and is_file(folder, near):
            return f"{hint}: there is {safe_text(near)}"
    return hint


def _filled(table: Table, name: str, problems: _Problems) -> list[str]:
    """The cells of a column, none of which may be empty."""
    cells = list(table.column(name))
    for line, cell in cells:
        if not cell:
            problems.add(f"nothing in {safe_text(name)}", line, hint=f"something in every cell of {safe_text(name)}")
    return [cell for _, cell in cells]


def _targets(table: Table, settings: Csv, problems: _Problems) -> tuple[Targets, list[str]]:
    """(N,) class numbers with the names of the classes, or (N, K) values."""
    if settings.values is not None:
        columns = [_numbers(table, name, problems) for name in settings.values]
        return np.array(columns, dtype=np.float32).T, []
    labels = _filled(table, settings.label, problems)
    names = sorted(set(labels), key=natural)
    if len(names) > max(10, len(labels) / 2) and all(NUMBER.fullmatch(name) for name in names):
        what = f"{safe_text(settings.label)} holds {len(names):,} different numbers in {len(labels):,} rows"
        raise Mistake(
            what,
            allowed="the name of a class in each row; numbers to be learned are named by data.values",
            type_this=for_shell(f"data.values={as_list([settings.label])}"),
        )
    if len(names) < 2 and labels[0]:
        raise Mistake(
            f"{safe_text(settings.label)} has one class only, {some(names)}",
            allowed="two classes or more",
        )
    label_of = {name: label for label, name in enumerate(names)}
    return np.array([label_of[label] for label in labels], dtype=np.int64), names


def _numbers(table: Table, name: str, problems: _Problems) -> list[float]:
    numbers = []
    for line, cell in table.column(name):
        number = float(cell) if NUMBER.fullmatch(cell) else None
        if number is None or abs(number) > LARGEST:
            what = f"{'no' if number is None else 'too large a'} number in {safe_text(name)}"
            comma = " with a decimal point" if "," in cell else ""
            problems.add(what, line, cell or "empty", f"a number{comma} in every cell of {safe_text(name)}")
            number = 0.0
        numbers.append(number)
    return numbers


def _splits(table: Table, name: str, problems: _Problems) -> list[str]:
    words = []
    for line, cell in table.column(name):
        word = cell.casefold()
        if word not in SPLITS:
            meant = OTHER_NAMES.get(word, "")
            hint = f"{', '.join(SPLITS)} in {safe_text(name)}" + (f"; for {word}: {meant}" if meant else "")
            problems.add(f"no split in {safe_text(name)}", line, cell or "empty", hint)
        words.append(word)
    return words


def _notes(table: Table, settings: Csv, class_names: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if settings.split is None and "split" in table.columns:
        notes.append("the column split is not used; data.split=split uses it")
    folded: dict[str, list[str]] = {}
    for name in class_names:
        folded.setdefault(name.casefold(), []).append(name)
    alike = [" and ".join(names) for names in folded.values() if len(names) > 1]
    if alike:
        notes.append(f"classes of their own, though alike: {some(alike)}")
    return tuple(notes)
