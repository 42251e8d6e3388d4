"""Contact sheets: what is shown is the image, captions are whole or cut, right and wrong differ without colour too."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.report import fonts
from dltrain.report.sheet import EDGE, LARGE, PAGE, RIGHT, SIZE, WRONG, cut, note, sheet, width

LONG = "a_class_whose_name_has_more_letters_than_any_cell_is_wide"


def grey(height: int = 28, wide: int = 28, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, wide), dtype=np.uint8))


def colours(image: Image.Image) -> set[tuple[int, int, int]]:
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3)}


def test_a_small_image_is_shown_pixel_by_pixel_enlarged_by_a_whole_factor() -> None:
    image = grey()
    page = np.asarray(sheet([image], [""]))
    enlarged = np.kron(np.asarray(image), np.ones((4, 4), dtype=np.uint8))  # 28 -> 112
    top = EDGE + 1
    assert np.array_equal(page[top : top + 112, top : top + 112], np.repeat(enlarged[:, :, None], 3, axis=2))


def test_colours_stay_and_odd_modes_become_rgb() -> None:
    red = Image.new("RGB", (300, 20), (200, 10, 10))
    assert (200, 10, 10) in colours(sheet([red], ["red"]))
    assert (
        sheet([red, Image.new("P", (5, 5)), Image.new("RGBA", (5, 90)), Image.new("1", (9, 9))], [""] * 4).mode == "RGB"
    )


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000), (257, 256)])
def test_any_size_fits(size: tuple[int, int]) -> None:
    page = sheet([grey(*size)], ["x"])
    assert max(page.size) < LARGE + 80


def test_rows_stand_below_each_other_and_stay_on_a_page() -> None:
    for n in (1, 2, 3, 7, 24, 64, 100):
        page = sheet([grey()] * n, [LONG] * n)
        assert page.width <= PAGE
        dark = np.asarray(page).min(axis=2) < 128
        assert not dark[-EDGE:].any(), "nothing is cut off below"
        assert not dark[:, -EDGE:].any()
    assert sheet([grey()] * 6, [""] * 6, columns=1).height > 6 * 112
    assert sheet([grey()] * 6, [""] * 6, columns=6).width > 6 * 112


def test_right_and_wrong_differ_in_colour_and_in_black_and_white() -> None:
    image = Image.new("L", (28, 28))
    pages = {mark: sheet([image], ["cat"], marks=[mark]) for mark in (True, False)}
    assert RIGHT in colours(pages[True])
    assert WRONG not in colours(pages[True])
    assert WRONG in colours(pages[False])
    assert RIGHT not in colours(pages[False])
    shapes = [np.asarray(page.convert("L"))[-20:] < 200 for page in pages.values()]
    assert (shapes[0] != shapes[1]).any(), "the signs before the captions are the same"
    alike = [np.asarray(sheet([image], ["cat"]).convert("L"))[-20:] < 200 for _ in range(2)]
    assert np.array_equal(*alike)


def luminance(colour: tuple[int, int, int]) -> float:
    """WCAG 2.1's relative luminance."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


@pytest.mark.parametrize("colour", [RIGHT, WRONG])
def test_captions_have_the_contrast_that_wcag_asks_for(colour: tuple[int, int, int]) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_a_caption_is_cut_to_its_cell_and_keeps_what_follows_a_tab() -> None:
    short = cut(LONG, SIZE, 100)
    assert short.endswith("…")
    kept = len(short) - 1
    assert width(short, SIZE) <= 100 < width(LONG[: kept + 1].rstrip() + "…", SIZE)
    assert cut(LONG + "\t99.9 %", SIZE, 140).endswith("…  99.9 %")
    assert cut("cat\t99.9 %", SIZE, 500) == "cat  99.9 %"
    whole = width("cat\t99.9 %", SIZE)
    assert cut("cat\t99.9 %", SIZE, whole) == "cat  99.9 %", "cut though there is room"
    assert cut("cat", SIZE, 0) == "…"


def test_hostile_and_foreign_names_are_shown_or_spelled_out() -> None:
    assert fonts.shown("a\x1b[31m\nb\u202ec") == "a\\x1b[31m\\nb\\u202ec"
    for name in ("Straße", "кот", "γάτα", "قط", "[red]bold[/red]", "$x^$", "=cmd()"):
        assert fonts.shown(name) == name
    sheet([grey()], ["\x1b]0;title\x07\nкот \udcff"], title="\x1b" + LONG * 9)


def test_letters_that_no_font_has_are_spelled_out_and_another_font_is_used_where_it_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = str(Path(fonts.default_file()).with_name("STIXGeneral.ttf"))
    has = []
    for names in ((), (other,)):
        monkeypatch.setattr(fonts, "SYSTEM", names)
        fonts._system.cache_clear()
        has.append(
            (fonts.shown("Ⓐ ✗"), [file for _, file in fonts.pieces("✗ Ⓐ b")], np.asarray(sheet([grey()], ["Ⓐ"])))
        )
    fonts._system.cache_clear()
    assert has[0][0] == "\\u24b6 ✗"
    assert has[1][0] == "Ⓐ ✗"
    assert has[1][1] == [fonts.default_file(), other, fonts.default_file()]
    assert has[0][2].shape != has[1][2].shape or (has[0][2] != has[1][2]).any()


def test_a_sheet_without_images_or_with_other_captions_is_refused() -> None:
    for images, captions in (([], []), ([grey()], []), ([grey()], ["a", "b"])):
        with pytest.raises(ValueError, match="image"):
            sheet(images, captions)
    assert note("nothing wrong").height < 60
