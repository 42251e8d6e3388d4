"""The rows and columns of a .csv file. Needs no torch."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote as for_shell
from typing import NamedTuple

from dltrain.config.messages import Mistake
from dltrain.config.nearest import is_near, nearest
from dltrain.config.quote import quote
from dltrain.data.columns import is_file
from dltrain.text import safe_text, some

MOST_BYTES = 1 << 30
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
STARTS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a spreadsheet or another zip file"}

Row = tuple[int, list[str]]  # the line it begins in, and its cells without the space around them


class Table(NamedTuple):
    """The rows below the header that are not blank; every row has a cell for every column."""

    columns: list[str]
    rows: list[Row]

    def column(self, name: str) -> Iterator[tuple[int, str]]:
        """(line, cell) of every row."""
        index = self.columns.index(name)
        return ((line, cells[index]) for line, cells in self.rows)


def read_table(path: Path, wanted: Mapping[str, Sequence[str]]) -> Table:
    """A table in UTF-8 with a header; what parts its cells is the comma, semicolon or tab that finds most columns.

    Args:
        path: the file.
        wanted: the columns that there must be, by the key of `data` that names them.

    Raises:
        Mistake: it cannot be read, a column is not there, or a row has other cells than the header.
    """
    text = _text(path)
    names = {name for key in wanted for name in wanted[key]}
    headers = {sign: _header(text, sign) for sign in DELIMITERS}
    sign = max(DELIMITERS, key=lambda sign: (len(names & set(headers[sign])), len(headers[sign])))
    (first, columns), *rows = list(_rows(text, sign)) or [(1, [])]
    if any(is_file(path.parent, column) for column in columns):
        raise Mistake(
            f"its first line names no columns, but a file: {some(columns)}",
            allowed=f"a first line with the names of the columns, such as file{sign}label",
        )
    if not columns:
        raise Mistake("it is empty", allowed="a first line that names the columns, and a line for each image")
    for key in wanted:
        _check_columns(columns, key, wanted[key], _paths(path.parent, columns, rows))
    if not rows:
        raise Mistake("there is nothing below its header", allowed="a line for each image")
    uneven = [f"line {line} ({len(cells)})" for line, cells in rows if len(cells) != len(columns)]
    if uneven:
        has = "has" if len(uneven) == 1 else "have"
        raise Mistake(
            f"{len(uneven):,} of {len(rows):,} rows {has} not the {len(columns)} cells of the header: {some(uneven)}",
            allowed=f"as many cells as line {first} has; a cell with a {DELIMITERS[sign]} in it needs quotes around it",
        )
    return Table(columns, rows)


def as_list(names: Sequence[str]) -> str:
    """Names as one types them for a key that takes a list."""
    return f"[{','.join(quote(name) if set(name) & set(',[]{}()') else name for name in names)}]"


def _paths(folder: Path, columns: list[str], rows: list[Row]) -> list[str]:
    """Columns that name a file in the row below the header."""
    cells = rows[0][1] if rows else []
    return [name for name, cell in zip(columns, cells, strict=False) if name and is_file(folder, cell)]


def _check_columns(columns: list[str], key: str, names: Sequence[str], paths: list[str]) -> None:
    """Raise Mistake unless each name is that of one column; `paths` are columns that hold paths."""
    for name in names:
        count = columns.count(name)
        if count == 1:
            continue
        if count:
            raise Mistake(
                f"{count} columns are called {safe_text(name)} (data.{key})", allowed="a name of its own for each"
            )
        close = nearest(name, [column for column in columns if column])
        if key == "file" and paths:
            close = paths[0]
        elif not is_near(name, close):
            close = ""
        instead = as_list([close if one == name else one for one in names]) if key == "values" else close
        raise Mistake(
            f"no column is called {safe_text(name)} (data.{key})",
            allowed=f"for data.{key} the columns that its first line names: {some(columns)}",
            nearest=safe_text(close),
            type_this=for_shell(f"data.{key}={instead}") if close else "",
        )


def _text(path: Path) -> str:
    """The file as text. Raises Mistake."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Mistake("it is larger than 1 GiB", allowed="a table of file names with labels or values")
        data = path.read_bytes()
    except OSError as error:
        raise Mistake(f"it cannot be read: {error.strerror or error}", allowed="a .csv file") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        is_other = next((f", but {what}" for start, what in STARTS.items() if data.startswith(start)), "")
        raise Mistake(
            f"it is not UTF-8 in line {data.count(10, 0, error.start) + 1}{is_other}",
            allowed="UTF-8 text; in a spreadsheet: save as CSV UTF-8",
        ) from None


def _header(text: str, sign: str) -> list[str]:
    """The first row, empty if there is none by this sign."""
    try:
        return next(_rows(text, sign), (1, []))[1]
    except Mistake:
        return []


def _rows(text: str, sign: str) -> Iterator[Row]:
    """Rows that are not blank. Raises Mistake."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield line, stripped
            line = reader.line_num + 1
    except csv.Error as error:
        raise Mistake(
            f"line {line} cannot be read as a row of cells: {error}",
            allowed='quotes around a whole cell, and doubled within it: "a ""b"" c"',
        ) from None
