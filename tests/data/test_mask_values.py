"""What values in masks mean: palettes, grey, colours, bits; and dirty masks, refused with the line that helps."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.config import data
from dltrain.data.decode import UnreadableError
from dltrain.data.imageset import ImageSet
from dltrain.data.mask_coding import Coding
from dltrain.data.mask_decode import examine_mask, read_mask
from dltrain.data.mask_values import judge, tally
from tests.data.masks import COLORS, Classes, discs, opened, save_pairs

Draw = Callable[[Classes, int], Image.Image]
WORDS = ["mode=summary", "model=unet", "model.depth=2", "model.base_channels=1", "data=mask_folder"]
CELLS = sum(int(discs(number).sum()) for number in range(10))
IGNORE = data.UnknownValues.ignore


def grey(values: list[int], kind: type = np.uint8) -> Draw:
    """Masks with a value for each class."""
    return lambda mask, _: Image.fromarray(np.array(values, kind)[mask])


def palette(mask: Classes, number: int) -> Image.Image:
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.reshape(-1).tolist())
    image.putpalette(COLORS.reshape(-1).tolist())
    return image


def colored(mask: Classes, number: int) -> Image.Image:
    return Image.fromarray(COLORS[mask])


def bits(mask: Classes, number: int) -> Image.Image:
    return Image.fromarray(255 * mask).convert("1")


def smooth(draw: Draw) -> Draw:
    """Made larger and small again, smoothly."""

    def made(mask: Classes, number: int) -> Image.Image:
        image = draw(mask, number)
        large = image.resize((56, 45), Image.Resampling.BILINEAR)
        return large.resize(image.size, Image.Resampling.BILINEAR)

    return made


def with_strays(mask: Classes, number: int) -> Image.Image:
    values = 255 * mask
    if number in (2, 5):
        values[3, 4], values[7, 1:3] = 128, 3
    return Image.fromarray(values)


def with_void(mask: Classes, number: int) -> Image.Image:
    mask = mask.copy()
    mask[:3] = 255
    return Image.fromarray(mask)


def right(images: ImageSet, classes: int) -> None:
    """Every mask holds the class numbers that it was drawn from."""
    for number in range(10):
        assert np.array_equal(images.read(number)[-1], discs(number, classes)), number


# ---- clean masks


@pytest.mark.parametrize(
    ("draw", "suffix", "classes", "keys"),
    [
        (grey([0, 1, 2, 3]), ".png", 4, {}),
        (grey([0, 1, 2, 3]), ".tif", 4, {}),
        (palette, ".png", 4, {}),
        (palette, ".gif", 4, {}),
        (bits, ".png", 2, {}),
        (lambda mask, _: Image.fromarray(np.stack([mask] * 3, -1)), ".png", 3, {}),  # in colours, but all grey
        (lambda mask, _: Image.fromarray(np.dstack([mask] * 3 + [mask * 0 + 255])), ".png", 3, {}),  # opaque
        (grey([0, 255]), ".png", 2, {"mask_values": [0, 255]}),
        (grey([200, 210]), ".png", 2, {"mask_values": [210, 200]}),
        (grey([0, 1000, 65535], np.uint16), ".png", 3, {"mask_values": [0, 1000, 65535]}),
        (grey([0, 1000, 65535], np.uint16), ".tif", 3, {"mask_values": [0, 1000, 65535]}),
        (bits, ".png", 2, {"mask_values": [0, 255]}),
        (lambda m, n: bits(m, n) if n % 2 else grey([0, 255])(m, n), ".png", 2, {"mask_values": [0, 255]}),
        (colored, ".png", 4, {"mask_colors": COLORS.tolist()}),
        (palette, ".png", 4, {"mask_colors": COLORS.tolist()}),
        (lambda m, n: palette(m, n) if n % 2 else colored(m, n), ".png", 4, {"mask_colors": COLORS.tolist()}),
        (grey([0, 255]), ".png", 2, {"mask_colors": [[0, 0, 0], [255, 255, 255]]}),
        (bits, ".png", 2, {"mask_colors": [[0, 0, 0], [255, 255, 255]]}),
    ],
)
def test_each_kind_of_mask_gives_its_classes(
    tmp_path: Path, draw: Draw, suffix: str, classes: int, keys: dict[str, object]
) -> None:
    images = opened(save_pairs(tmp_path, draw, classes=classes, suffix=suffix), **keys)
    assert len(images.spec.class_names) == classes
    if keys.get("mask_values") == [210, 200]:  # the order of the classes is the user's
        assert np.array_equal(images.read(0)[-1], 1 - discs(0))
    else:
        right(images, classes)


@pytest.mark.parametrize("count", [254, 255])
def test_as_many_classes_as_there_can_be(tmp_path: Path, count: int) -> None:
    """255 is what counts for nothing; a value beyond the classes is found also where every other number is taken."""
    for place in ("images", "masks"):
        (tmp_path / place).mkdir()
    every = np.repeat(np.arange(256, dtype=np.uint8), 40)[: 40 * count].reshape(count, 40)
    for number in range(4):
        for place in ("images", "masks"):
            Image.fromarray(np.roll(every, number, axis=0)).save(tmp_path / place / f"{number}.png")
    images = opened(tmp_path)
    assert len(images.spec.class_names) == count
    assert np.array_equal(images.read(1)[-1], np.roll(every, 1, axis=0))
    Image.fromarray(np.full((count, 40), 255, np.uint8)).save(tmp_path / "masks" / "2.png")
    with pytest.raises(UnreadableError, match="holds a value"):
        images.read(2)


def test_classes_are_called_as_they_are_given_or_by_their_values(tmp_path: Path) -> None:
    save_pairs(tmp_path / "a", grey([0, 255]))
    assert opened(tmp_path / "a", mask_values=[0, 255]).spec.class_names == ("0", "255")
    names = ["ground", "a \x1b[31m cell"]
    images = opened(tmp_path / "a", mask_values=[0, 255], class_names=names)
    assert images.spec.class_names == ("ground", r"a \x1b[31m cell")
    save_pairs(tmp_path / "b", colored, classes=3)
    assert opened(tmp_path / "b", mask_colors=COLORS[:3].tolist()).spec.class_names == ("#000000", "#ff0000", "#00ff00")


def test_a_class_that_no_training_mask_holds_is_told(tmp_path: Path) -> None:
    save_pairs(tmp_path, grey([0, 1]))
    images = opened(tmp_path, class_names=["ground", "cell", "nucleus"])
    assert len(images.spec.class_names) == 3
    assert "no training mask holds nucleus" in images.spec.notes


def test_ignored_values_count_for_nothing_and_are_told(tmp_path: Path) -> None:
    images = opened(save_pairs(tmp_path / "a", with_void, classes=3), ignore_index=255)
    assert images.spec.class_names == ("0", "1", "2")
    expected = discs(1, 3)
    expected[:3] = 255
    assert np.array_equal(images.read(1)[-1], expected)
    assert "9.4 % of the masks' pixels count for nothing (data.ignore_index=255)" in images.spec.notes
    assert (
        "no mask holds data.ignore_index=77"
        in opened(tmp_path / "a", class_names=[*"abc"], ignore_index=77, unknown_mask_values=IGNORE).spec.notes
    )
    images = opened(save_pairs(tmp_path / "b", with_strays), mask_values=[0, 255], unknown_mask_values=IGNORE)
    assert images.read(2)[-1][3, 4] == 255
    assert images.read(3)[-1][3, 4] == 0
    assert (
        "6 pixels (0.047 %) with values that are no classes, 3, 128, count for nothing "
        "(data.unknown_mask_values=ignore)" in images.spec.notes
    )


def void_in(root: Path, split: str, value: int = 255) -> Path:
    """A set in three splits, where all pixels of one have this value."""
    for name, count in (("train", 6), ("val", 2), ("test", 2)):
        whole = grey([0, 1]) if name != split else grey([value, value])
        save_pairs(root, whole, count, below=name)
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_whose_pixels_all_count_for_nothing_is_a_mistake_with_a_line_that_works(
    split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = void_in(tmp_path / "set", split)
    code, said = told(capsys, f"data.root={root}", "data.ignore_index=255")
    assert code == 2
    assert f"every pixel of {split} counts for nothing, being 255 (data.ignore_index=255)" in said
    words = shlex.split(next(line for line in said.splitlines() if line.startswith("  type"))[10:])
    assert words[-2:] == ["data.ignore_index=null", "data.mask_values=[0,1,255]"]
    assert main(words[1:]) == 0
    assert ", 3 classes" in capsys.readouterr().out
    code, said = told(capsys, f"data.root={root}", "data.mask_values=[0,1]", "data.unknown_mask_values=ignore")
    assert code == 2
    assert f"every pixel of {split} counts for nothing (data.unknown_mask_values=ignore)" in said
    assert "data.unknown_mask_values=stop" in said


def test_a_test_split_with_nothing_to_measure_is_told(tmp_path: Path) -> None:
    images = opened(void_in(tmp_path, "test"), ignore_index=255)
    assert "every pixel of test counts for nothing: there is nothing to measure in it" in images.spec.notes
    assert not [note for note in opened(tmp_path, mask_values=[0, 1, 255]).spec.notes if "every pixel" in note]


def test_palettes_that_differ_are_pointed_out(tmp_path: Path) -> None:
    def two(mask: Classes, number: int) -> Image.Image:
        image = palette(mask, number)
        if number == 7:
            image.putpalette(COLORS[::-1].reshape(-1).tolist())
        return image

    images = opened(save_pairs(tmp_path, two, classes=4))
    said = "index 0 of the palette is #000000 in masks/00.png and #0000ff in masks/07.png"
    assert any(note.startswith(said) for note in images.spec.notes)


# ---- dirty masks, from the command line


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main([*WORDS, *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("draw", "classes", "suffix", "typed", "says", "type_this"),
    [
        (
            grey([0, 255]), 2, ".png", [],
            [f"hold 0 ({12_800 - CELLS:,} pixels in 10 files) and 255 ({CELLS} pixels in 10 files)"],
            ["data.mask_values=[0,255]", "data.class_names=[background,cell]"],
        ),
        (
            grey([200, 210]), 2, ".png", [],
            [f"200 ({12_800 - CELLS:,} pixels in 10 files) and 210"],
            ["data.mask_values=[200,210]", "data.class_names=[background,cell]"],
        ),
        (
            grey([0, 255]), 2, ".png", ["data.class_names=[ground,cell]"],
            [f"10 of 10 masks hold values that are no classes: 255 ({CELLS} pixels in 10 files)", "no mask holds 1"],
            ["data.class_names=[ground,cell]", "data.mask_values=[0,255]"],
        ),
        (
            grey([0, 255]), 2, ".png", ["data.mask_values=[0,1]"],
            [f"no classes: 255 ({CELLS} pixels in 10 files); no mask holds 1"],
            ["data.mask_values=[0,255]", "data.class_names=[background,cell]"],
        ),
        (
            grey([0, 1, 2, 7]), 4, ".png", ["data.class_names=[ground,a,'b, c',d]"],
            ["no classes: 7 ("],
            ["data.class_names=[ground,a,'b, c',d]", "data.mask_values=[0,1,2,7]"],
        ),
        (
            with_strays, 2, ".png", ["data.mask_values=[0,255]"],
            ["2 of 10 masks hold values that are no classes: 3 (4 pixels in 2 files: masks/02.png, masks/05.png)",
             " and 128 (2 pixels in 2 files"],
            ["data.mask_values=[0,255]", "data.unknown_mask_values=ignore"],
        ),
        (
            with_strays, 2, ".png", [],
            ["0 (", "3 (4 pixels in 2 files)", "128 (2 pixels in 2 files) and 255"],
            ["data.mask_values=[0,255]", "data.class_names=[background,cell]", "data.unknown_mask_values=ignore"],
        ),
        (with_void, 4, ".png", [], ["3 (", "and 255 (1,200 pixels in 10 files)"], ["data.ignore_index=255"]),
        (
            with_void, 3, ".png", ["data.class_names=[a,b,c]"],
            ["no classes: 255 (1,200 pixels in 10 files)"],
            ["data.class_names=[a,b,c]", "data.ignore_index=255"],
        ),
        (
            grey([0, 255]), 2, ".jpg", [],
            ["looks interpolated: ", "values with few pixels each", "between or beside 0, 255", "saved as PNG"],
            ["data.mask_values=[0,255]", "data.class_names=[background,cell]", "data.unknown_mask_values=ignore"],
        ),
        (
            smooth(grey([0, 255])), 2, ".png", ["data.mask_values=[0,255]"],
            ["10 of 10 masks hold values that are no classes", "looks interpolated: "],
            ["data.mask_values=[0,255]", "data.unknown_mask_values=ignore"],
        ),
        (
            colored, 4, ".png", [],
            ["[0,0,0] (", "[0,0,255] (", "no data.mask_colors say which class each colour is"],
            [
                "data.mask_colors=[[0,0,0],[255,0,0],[0,255,0],[0,0,255]]",
                "data.class_names=[background,class_1,class_2,class_3]",
            ],
        ),
        (
            colored, 3, ".png", ["data.mask_colors=[[0,0,0],[255,0,0]]", "data.class_names=[ground,cell]"],
            ["no classes: [0,255,0] ("],
            ["data.mask_colors=[[0,0,0],[255,0,0],[0,255,0]]", "data.class_names=[ground,cell,class_2]"],
        ),
        (
            colored, 3, ".png", ["data.mask_values=[0,1,2]", "data.ignore_index=9"],
            ["no data.mask_colors say"],
            [
                "data.mask_colors=[[0,0,0],[255,0,0],[0,255,0]]", "data.mask_values=null", "data.ignore_index=null",
                "data.class_names=[background,class_1,class_2]",
            ],
        ),
        (
            smooth(colored), 3, ".png", [],
            ["looks interpolated: ", "beside [0,0,0], [255,0,0], [0,255,0]"],
            [
                "data.mask_colors=[[0,0,0],[255,0,0],[0,255,0]]", "data.class_names=[background,class_1,class_2]",
                "data.unknown_mask_values=ignore",
            ],
        ),
        (
            grey([0, 1000], np.uint16), 2, ".png", [],
            [f"1000 ({CELLS} pixels in 10 files)"],
            ["data.mask_values=[0,1000]", "data.class_names=[background,cell]"],
        ),
        (
            grey([0, 255]), 2, ".png", ["data.mask_values=[1,2]", "data.unknown_mask_values=ignore"],
            ["no mask holds 1, 2"],
            [
                "data.unknown_mask_values=ignore", "data.mask_values=[0,255]",
                "data.class_names=[background,cell]",
            ],
        ),
    ],
)  # fmt: skip
def test_dirty_masks_are_told_with_the_line_that_helps(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    draw: Draw,
    classes: int,
    suffix: str,
    typed: list[str],
    says: list[str],
    type_this: list[str],
) -> None:
    """The command that is printed is pasted as it is, and works; the masks are then the ones that were drawn."""
    root = save_pairs(tmp_path / "set", draw, classes=classes, suffix=suffix)
    code, said = told(capsys, f"data.root={root}", *typed)
    assert code == 2
    for text in says:
        assert text in said
    (line,) = [line for line in said.splitlines() if line.startswith("  type ")]
    words = shlex.split(line)[1:]
    assert words == ["dltrain", *WORDS, f"data.root={root}", *type_this]
    assert main(words[1:]) == 0, capsys.readouterr().err
    assert f", {len(COLORS[:classes])} classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (grey([0, 0]), "the masks hold 0 (12,800 pixels in 10 files) only, so that there is nothing to tell apart"),
        (
            lambda mask, number: Image.fromarray(
                (mask.astype(np.uint16) * 300 + np.arange(40) * 13 + number).astype(np.uint16)
            ),
            "255 classes at most; values that number single objects are first to be made into classes",
        ),
        (
            lambda mask, number: colored(mask, 0) if number else grey([0, 999], np.uint16)(mask, 0),
            "masks/00.png has values above 255, which are no colours",
        ),
    ],
)
def test_masks_for_which_no_line_helps_are_told_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], draw: Draw, says: str
) -> None:
    code, said = told(capsys, f"data.root={save_pairs(tmp_path / 'set', draw)}")
    assert code == 2
    assert says in said
    assert "  type " not in said


def test_colours_and_16_bit_values_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = save_pairs(tmp_path / "set", grey([0, 999], np.uint16))
    code, said = told(capsys, f"data.root={root}", "data.mask_colors=[[0,0,0],[255,0,0]]")
    assert code == 2
    assert "masks/00.png has values above 255, which are no colours" in said


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.fromarray(np.zeros((32, 40), np.float32)), "floating-point pixels can be no classes"),
        (Image.fromarray(np.full((32, 40), 70_000, np.int32)), "more than 16 bit"),
        (Image.fromarray(np.dstack([discs(0)] * 4)), "is transparent in places"),
        (Image.fromarray(np.dstack([discs(0)] * 2)), "is transparent in places"),
    ],
)
def test_what_can_be_no_mask_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Image.Image, says: str
) -> None:
    root = save_pairs(tmp_path / "set")
    (root / "masks" / "04.png").unlink()
    image.save(root / "masks" / "04.tif")
    code, said = told(capsys, f"data.root={root}")
    assert code == 2
    assert "masks/04.tif cannot be read: " in said
    assert says in said


@pytest.mark.parametrize("typed", [[], ["data.unreadable=skip"]])
def test_leaving_files_out_is_offered_only_if_a_pair_remains(
    typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = save_pairs(tmp_path / "set", lambda mask, _: Image.fromarray(np.dstack([mask] * 4)), count=4)
    code, said = told(capsys, f"data.root={root}", *typed)
    assert code == 2
    assert "4 of 8 files" in said
    assert "masks/00.png cannot be read: " in said
    assert "data.unreadable=skip" not in said
    assert "leave them out" not in said


# ---- what looks like a class


def verdict(folder: Path) -> tuple[list[int], bool]:
    masks = {path.name: examine_mask(path, 1 << 20) for path in sorted((folder / "masks").iterdir())}
    found = judge(tally(masks, Coding(())), None)
    return found.main, found.interpolated


def stripes(values: list[int]) -> Draw:
    """Every value in a broad stripe, two of them far more often."""

    def draw(mask: Classes, number: int) -> Image.Image:
        area = np.full((96, 120), values[0], np.uint8)
        area[40:] = values[-1]
        for k, value in enumerate(values[1:-1]):
            row, column = divmod(k, 20)
            area[4 + 5 * row : 8 + 5 * row, 6 * column : 6 * column + 4] = value
        return Image.fromarray(area)

    return draw


def test_many_rare_classes_are_not_taken_for_smeared_ones(tmp_path: Path) -> None:
    """28 classes between two frequent ones, each in a small area: contiguous they pass, with a gap they are listed."""
    for values in (list(range(30)), [*range(29), 40]):
        folder = tmp_path / str(values[-1])
        for place in ("images", "masks"):
            (folder / place).mkdir(parents=True)
        for number in range(6):
            made = stripes(values)(discs(number), number)
            made.save(folder / "masks" / f"{number}.png")
            made.save(folder / "images" / f"{number}.png")
        assert verdict(folder) == (values, False)
    assert len(opened(tmp_path / "29").spec.class_names) == 30


def test_values_without_a_gap_that_are_smeared_are_no_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of 0 to 40 occur, as blurred edges leave them."""

    def draw(mask: Classes, number: int) -> Image.Image:
        values = 40 * mask
        values[16, :39] = np.arange(1, 40)
        return Image.fromarray(values)

    root = save_pairs(tmp_path / "set", draw)
    code, said = told(capsys, f"data.root={root}")
    assert code == 2
    assert "looks interpolated: 39 values" in said
    assert "data.mask_values=[0,40]" in said
    code, said = told(capsys, f"data.root={root}", f"data.class_names=[{','.join(f'c{k}' for k in range(41))}]")
    assert code == 0  # who says what they are is believed


def test_counts_are_those_of_a_plain_count(tmp_path: Path) -> None:
    """Pixels, and pixels whose four neighbours have the same value, one by one."""
    mask = np.random.RandomState(0).randint(0, 3, (12, 15)).astype(np.uint8)
    mask[2:8, 3:9] = 1
    for draw in (grey([0, 1, 2]), palette, colored):
        draw(mask, 0).save(tmp_path / "mask.png")
        header = examine_mask(tmp_path / "mask.png", 1000)
        values = read_mask(tmp_path / "mask.png", 1000).values
        expected = {}
        for value in np.unique(values).tolist():
            flat = sum(
                values[r, c] == value == values[r - 1, c] == values[r + 1, c] == values[r, c - 1] == values[r, c + 1]
                for r in range(1, 11)
                for c in range(1, 14)
            )
            expected[value] = (int((values == value).sum()), flat)
        assert {count.value: (count.pixels, count.flat) for count in header.counts} == expected
        assert type(header).of(header.record()) == header
