"""One decode function: orientation, every mode in the stated way, size limits before decoding, broken files named."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.data.decode import UnreadableError, decode, examine
from dltrain.text import safe_text
from tests.data.conftest import picture

# What a viewer does for each EXIF orientation (CIPA DC-008, 4.6.4.A), as array operations on (H, W, C).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def saved(image: Image.Image, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, **{"format": "PNG", **options})
    file.seek(0)
    return file


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    image = picture(12, 20, seed=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    file = saved(image, format=kind, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
    if kind == "TIFF":  # Pillow itself may have turned it
        stored = np.asarray(image)
    expected = UPRIGHT[orientation](stored)
    assert np.array_equal(np.asarray(decode(file, 3)), expected)
    file.seek(0)
    header = examine(file)
    assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)


def test_the_eight_orientations_differ() -> None:
    """The table above, applied to an F."""
    f = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], np.uint8)[..., None] * 255
    seen = {n: UPRIGHT[n](f)[..., 0].tobytes() + bytes(UPRIGHT[n](f).shape) for n in UPRIGHT}
    assert len(set(seen.values())) == 8


def test_transparency_lies_over_white() -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0] = [[255, 0, 0, 255], [255, 0, 0, 0], [255, 0, 0, 128]]
    out = np.asarray(decode(saved(Image.fromarray(pixels, "RGBA")), 3))[0]
    assert out[:2].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert out[2].tolist() == [255, 127, 127]
    grey = Image.merge("LA", [Image.new("L", (2, 1), 10), Image.new("L", (2, 1), 0)])
    assert np.asarray(decode(saved(grey), 1)).tolist() == [[255, 255]]


def test_palettes_are_looked_up_also_transparent_ones() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 2])
    assert np.asarray(decode(saved(image), 3))[0].tolist() == [[0, 0, 0], [10, 20, 30], [200, 100, 50]]
    clear = decode(saved(image, transparency=2), 3)
    assert np.asarray(clear)[0].tolist() == [[0, 0, 0], [10, 20, 30], [255, 255, 255]]


def test_16_bit_grey_is_scaled_not_cut() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    assert np.asarray(decode(saved(Image.fromarray(values)), 1)).tolist() == [[0, 0, 1, 1, 128, 255]]
    three = np.asarray(decode(saved(Image.fromarray(values)), 3))
    assert three[0, 4].tolist() == [128, 128, 128]
    assert examine(saved(Image.fromarray(values))).grey


def test_16_bit_colour_keeps_the_high_byte() -> None:
    row = struct.pack(">6H", 0x12FF, 0x8000, 0xFFFF, 0, 0x00FF, 0x0100)
    file = png(2, 1, 16, 2, zlib.compress(b"\0" + row))
    assert np.asarray(decode(io.BytesIO(file), 3))[0].tolist() == [[0x12, 0x80, 0xFF], [0, 0, 1]]


def test_bilevel_grey_and_colour() -> None:
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert np.asarray(decode(saved(bits), 1)).tolist() == [[0, 255]]
    grey = Image.fromarray(np.array([[7, 200]], np.uint8))
    assert np.asarray(decode(saved(grey), 3))[0].tolist() == [[7, 7, 7], [200, 200, 200]]
    colour = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    assert np.asarray(decode(saved(colour), 1)).tolist() == [[76, 150, 29]]  # 0.299 R + 0.587 G + 0.114 B


def test_cmyk_becomes_rgb_and_its_first_channel_is_not_taken_for_grey() -> None:
    cmyk = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8), "CMYK")
    rgb = np.asarray(decode(saved(cmyk, format="TIFF"), 3))[0].tolist()
    assert rgb == [[255, 255, 255], [0, 255, 255], [0, 0, 0]]
    assert np.asarray(decode(saved(cmyk, format="TIFF"), 1)).tolist() == [[255, 179, 0]]
    assert decode(saved(cmyk, format="JPEG"), 3).mode == "RGB"


def test_floats_are_refused_and_frames_beyond_the_first_left_out() -> None:
    with pytest.raises(UnreadableError, match="floating-point"):
        decode(saved(Image.new("F", (2, 2)), format="TIFF"), 1)
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    file = saved(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(file, 1)).max() == 10


def png(width: int, height: int, bits: int, colour: int, data: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_the_header_is_enough_to_refuse_a_large_image(tmp_path: Path) -> None:
    """20,000 x 20,000 pixels in a few bytes: refused without decoding, under Pillow's limit and ours."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png(20_000, 20_000, 8, 0, b""))
    with pytest.raises(UnreadableError, match=r"bomb.png has 20000 x 20000 = 400,000,000 pixels; data.max_pixels"):
        decode(bomb, 1)
    with pytest.raises(UnreadableError, match="max_pixels is 100"):
        decode(picture(20, 20, 0), 3, max_pixels=100)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadableError, match="cannot be read"):  # the limit passed, so the (empty) data is looked at
        decode(bomb, 1, max_pixels=500_000_000)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    whole = saved(picture(40, 40, 3), format="JPEG").getvalue()
    text_bomb = zlib.compress(bytes(100_000_000))
    extra = b"zTXt" + b"k\0\0" + text_bomb
    attacks = {
        "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
        "empty.jpg": (b"", "is not an image"),
        "cut.jpg": (whole[: len(whole) // 2], "cannot be read"),
        "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is not an image"),
        "text.png": (
            png(2, 2, 8, 0, b"", struct.pack(">I", len(extra) - 4) + extra + struct.pack(">I", zlib.crc32(extra))),
            "cannot be read",
        ),
        "many.tif": (b"II*\0\x08\0\0\0" + b"\0\0" + struct.pack("<I", 8), "cannot be read|is not an image"),
    }
    for name, (content, says) in attacks.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=rf"{name} .*({says})|{name} ({says})"):
            decode(tmp_path / name, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_file_any_byte_of_which_is_wrong_gives_pixels_or_one_kind_of_error(tmp_path: Path) -> None:
    good = {
        kind: saved(picture(16, 16, 5), format=kind).getvalue()
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
    }
    step = 0
    for kind, content in good.items():
        for place in range(0, min(len(content), 400), 7):
            step += 1
            damaged = bytearray(content)
            damaged[place] ^= 0xFF >> (step % 8)
            try:
                assert decode(io.BytesIO(bytes(damaged)), 3, max_pixels=10_000).mode == "RGB"
            except UnreadableError as error:
                assert "the image" in str(error), kind


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31mred\n\u202egnp.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableError) as caught:
        decode(path, 3)
    assert r"a\x1b[31mred\n\u202egnp.png" in str(caught.value)
    assert safe_text("Ünïcode 猫 [red]") == "Ünïcode 猫 [red]"
    assert safe_text("\udcff\x9b") == r"\udcff\x9b"
    assert safe_text("x" * 500) == "x" * 98 + "..." + "x" * 98
