"""Contact sheets: images of any size in rows, each with its caption. Needs Pillow alone."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from dltrain.report.fonts import face, pieces, shown

TEXT, FAINT, WHITE = (33, 33, 33), (224, 224, 224), (255, 255, 255)
RIGHT, WRONG = (0, 110, 84), (184, 50, 20)  # told apart with every kind of colour vision, and readable on white
COLOURS = {True: RIGHT, False: WRONG, None: TEXT}
TAB = "  "
SIGNS = {True: "✓ ", False: "✗ "}
SMALL, LARGE = 96, 256  # sides that images are enlarged to by whole factors, or reduced to
WIDEST_CAPTION, MOST_COLUMNS = 200, 8
PAGE = 1280  # width of a sheet whose columns are not given
SIZE, LINE = 13, 17  # of a caption's letters and lines
TITLE = 18
GAP, EDGE, FRAME = 8, 12, 3


def sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int | None = None,
    title: str = "",
    marks: Sequence[bool | None] | None = None,
    largest: int = LARGE,
) -> Image.Image:
    """Captioned images, row by row on white, as RGB.

    Small images are enlarged by whole factors, so that their pixels stay squares; larger ones than `largest` pixels a
    side are reduced. A caption has
    one line for each line of its text, cut where it is too wide; what follows a tab is kept whole. `marks`: True a
    green caption with a tick, False a red one with a cross, None neither. `columns`: as many as fill a page, and rows
    as full as they can be.
    """
    if not images:
        raise ValueError("a sheet needs at least one image")
    if len(captions) != len(images) or (marks is not None and len(marks) != len(images)):
        raise ValueError(f"{len(images)} images, {len(captions)} captions")
    marks = [None] * len(images) if marks is None else marks
    cells = [_fitted(image, largest) for image in images]
    texts = [_lines(caption, mark) for caption, mark in zip(captions, marks, strict=True)]
    border = FRAME if any(mark is not None for mark in marks) else 1
    around = 2 * border + GAP
    page_room = PAGE - 2 * EDGE + GAP
    room_of_one = page_room // (_columns(len(images), MOST_COLUMNS) if columns is None else columns) - around
    widest = max((width(line, SIZE) for lines in texts for line in lines), default=0)
    wide = max(max(cell.width for cell in cells), min(widest, room_of_one, WIDEST_CAPTION))
    step = wide + around
    columns = min(len(images), _columns(len(images), max(1, page_room // step)) if columns is None else columns)
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    below = max(len(lines) for lines in texts) * LINE + GAP + 2
    heights = [max(cells[i].height for i in row) + 2 * border + below for row in rows]
    room = columns * step - GAP
    titles = _wrapped(shown(title), room) if title else []
    head = len(titles) * (TITLE + 6) + GAP if title else 0
    page = Image.new("RGB", (room + 2 * EDGE, head + sum(heights) - GAP + 2 * EDGE), WHITE)
    pen = ImageDraw.Draw(page)
    for j, line in enumerate(titles):
        write(pen, (EDGE, EDGE + j * (TITLE + 6)), line, TITLE, TEXT)
    floor = EDGE + head
    for row, height in zip(rows, heights, strict=True):
        floor += height  # captions are written upwards from here, images stand on them
        for column, i in enumerate(row):
            left, bottom = EDGE + column * step + border, floor - below - border
            _framed(page, pen, cells[i], left + (wide - cells[i].width) // 2, bottom, marks[i], border)
            for j, line in enumerate(texts[i]):
                line = cut(line, SIZE, wide)
                at = left + (wide - width(line, SIZE)) // 2, bottom + border + 2 + j * LINE
                write(pen, at, line, SIZE, COLOURS[marks[i]])
    return page


def _framed(
    page: Image.Image, pen: ImageDraw.ImageDraw, cell: Image.Image, x: int, bottom: int, mark: bool | None, border: int
) -> None:
    top = bottom - cell.height
    box = (x - border, top - border, x + cell.width + border - 1, bottom + border - 1)
    pen.rectangle(box, FAINT if mark is None else COLOURS[mark])
    page.paste(cell, (x, top))


def note(text: str) -> Image.Image:
    """A line of text in place of a sheet that would have no image."""
    line = cut(shown(text), TITLE, PAGE - 2 * EDGE)
    page = Image.new("RGB", (width(line, TITLE) + 2 * EDGE, TITLE + 4 * GAP), WHITE)
    write(ImageDraw.Draw(page), (EDGE, EDGE), line, TITLE, TEXT)
    return page


def cut(text: str, size: int, room: int) -> str:
    """`text`, with `…` for its end, or for what ends at its tab, where it is wider than `room` pixels."""
    if width(text, size) <= room:
        return text.replace("\t", TAB)
    text, tab, kept = text.partition("\t")
    if tab:
        return cut(text, size, room - width(TAB + kept, size)) + TAB + kept
    shortest, longest = 0, len(text)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if width(text[:middle] + "…", size) <= room:
            shortest = middle
        else:
            longest = middle - 1
    return text[:shortest].rstrip() + "…"


def width(text: str, size: int) -> int:
    """Pixels that a line takes."""
    text = text.replace("\t", TAB)
    return math.ceil(sum(face(size, file).getlength(piece) for piece, file in pieces(text)))


def write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: tuple[int, int, int]
) -> None:
    """Draw a line whose upper left corner is `at`, every font on the same ground line."""
    x, y = at[0], at[1] + size
    for piece, file in pieces(text):
        pen.text((x, y), piece, fill=colour, font=face(size, file), anchor="ls")
        x += face(size, file).getlength(piece)


def _wrapped(text: str, room: int) -> list[str]:
    """The lines of a title, broken between words."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if width(longer, TITLE) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [cut(line, TITLE, room) for line in lines if line]


def _lines(caption: str, mark: bool | None) -> list[str]:
    lines = ["\t".join(shown(part) for part in line.split("\t", 1)) for line in caption.split("\n")] if caption else []
    if mark is not None:
        lines = [SIGNS[mark] + (lines[0] if lines else ""), *lines[1:]]
    return lines


def _fitted(image: Image.Image, largest: int) -> Image.Image:
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    longest = max(image.size)
    if longest > largest:
        size = (max(1, round(image.width * largest / longest)), max(1, round(image.height * largest / longest)))
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, math.ceil(SMALL / longest))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _columns(number: int, most: int) -> int:
    """Columns of rows that are as full as they can be, and about as many as rows are."""
    most = min(most, MOST_COLUMNS, number)
    rows = max(math.ceil(number / most), round(math.sqrt(number / 1.5)) or 1)
    return math.ceil(number / rows)
