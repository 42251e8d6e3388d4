"""The weight map's borders against distances measured pixel by pixel; computed once, whatever happens to the cache."""

import pickle
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dltrain.config.messages import Mistake
from dltrain.config.segmentation import Segmentation
from dltrain.config.spec import IGNORED, DataSpec, Target
from dltrain.data import borders
from dltrain.data.borders import border_term, kept_term, with_borders
from dltrain.data.fetch import cache_folder
from dltrain.data.imageset import Images, ImageSet

SPEC = DataSpec("cells", (1, 8, 8), Target.mask, ("ground", "cell"), {"train": 2, "val": 1}, (0.5,), (0.5,))


def cells_of(mask: Images) -> list[list[tuple[int, int]]]:
    """The pixels of each cell, found by walking from side to side."""
    left = {(int(r), int(c)) for r, c in np.argwhere((mask != 0) & (mask != IGNORED))}
    cells = []
    while left:
        waiting, cell = deque([left.pop()]), []
        while waiting:
            r, c = waiting.popleft()
            cell.append((r, c))
            for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if near in left and mask[near] == mask[r, c]:
                    left.remove(near)
                    waiting.append(near)
        cells.append(cell)
    return cells


@lru_cache
def together(number: int) -> NDArray[np.float64]:
    """d1 + d2 of each pixel of ground of a mask, each the smallest of all distances; elsewhere infinite."""
    mask = masks()[number]
    cells, found = cells_of(mask), np.full(mask.shape, np.inf)
    if len(cells) > 1:
        for r, c in np.argwhere(mask == 0):
            nearest = sorted(min((r - i) ** 2 + (c - j) ** 2 for i, j in cell) for cell in cells)
            found[r, c] = np.sqrt(nearest[0]) + np.sqrt(nearest[1])
    return found


def masks() -> list[Images]:
    g = np.random.default_rng(0)
    noise = (g.random((20, 31)) < 0.1).astype(np.uint8) * g.integers(1, 4, (20, 31)).astype(np.uint8)
    noise[g.random(noise.shape) < 0.05] = IGNORED
    blobs = np.zeros((40, 33), dtype=np.uint8)
    for r, c, radius, k in ((8, 8, 6, 1), (8, 22, 6, 1), (24, 12, 7, 2), (33, 27, 5, 1), (20, 29, 3, 254)):
        rows, columns = np.ogrid[:40, :33]
        blobs[(rows - r) ** 2 + (columns - c) ** 2 <= radius**2] = k
    diagonal = np.ones((12, 12), dtype=np.uint8)
    np.fill_diagonal(diagonal, 0)  # parts two cells that touch at corners
    one = np.zeros((9, 9), dtype=np.uint8)
    one[3:6, 3:6] = 1
    return [noise, blobs, diagonal, one, np.zeros_like(one), np.full_like(one, IGNORED), np.ones_like(one)]


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("number", range(7))
def test_the_term_is_equation_2_in_float64(number: int, sigma: float) -> None:
    mask = masks()[number]
    expected = 255 * np.exp(-(together(number) ** 2) / (2 * sigma**2))
    term = border_term(mask, sigma)
    assert term.dtype == np.uint8
    assert np.abs(term - expected).max() <= 0.5 + 1e-9
    assert (term > 0).any() == (number < 3 and expected.max() > 0.5)


def test_it_is_scipys_distance_transform_of_each_cell() -> None:
    """As most ports of the paper have it: a map of distances for each cell, and the two smallest of each pixel."""
    from scipy.ndimage import distance_transform_edt

    mask = masks()[1]
    maps = np.stack([distance_transform_edt(_outside(mask.shape, cell)) for cell in cells_of(mask)])
    maps.sort(axis=0)
    expected = 255 * np.exp(-((maps[0] + maps[1]) ** 2) / (2 * 5.0**2)) * (mask == 0)
    assert np.array_equal(border_term(mask, 5.0), np.rint(expected))


def _outside(shape: tuple[int, ...], cell: list[tuple[int, int]]) -> NDArray[np.bool_]:
    outside = np.ones(shape, dtype=bool)
    outside[tuple(np.array(cell).T)] = False
    return outside


def test_a_line_of_ground_one_pixel_wide_weighs_nearly_all() -> None:
    """Between two cells, d1 = d2 = 1; far off it is 0, and in the cells."""
    mask = np.ones((40, 41), dtype=np.uint8)
    mask[:, 20] = 0
    term = border_term(mask, 5.0)
    assert (term[:, 20] == round(255 * np.exp(-4 / 50))).all()
    assert not term[mask == 1].any()


class Counting:
    """A reader of three images, which counts."""

    def __init__(self) -> None:
        self.masks = [masks()[1], masks()[1][:20], masks()[1]]

    def __call__(self, number: int, part: Any = None) -> Images:
        mask = self.masks[number]
        return np.stack([np.full_like(mask, number), mask])

    def everything(self, say: Any) -> list[Images]:
        return [self(number) for number in range(3)]


def image_set() -> ImageSet:
    splits = {"train": np.array([0, 1]), "val": np.array([2])}
    return ImageSet(SPEC, np.zeros((3, 0), dtype=np.int64), splits, Counting(), sizes=np.array([[40, 33]] * 3))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, ...]]:
    """Shapes of the masks whose term was computed, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found: list[tuple[int, ...]] = []
    real = borders.border_term
    monkeypatch.setattr(borders, "border_term", lambda mask, sigma: (found.append(mask.shape), real(mask, sigma))[1])
    return found


def test_training_masks_get_the_term_once_and_others_none(computed: list[tuple[int, ...]]) -> None:
    images = with_borders(image_set(), Segmentation(weight_map=True, sigma=3.0))
    for read in (images.read, pickle.loads(pickle.dumps(images.read))):
        several = read.everything(print)
        for number in range(3):
            plain, found = Counting()(number), read(number)
            assert np.array_equal(found, several[number])
            assert np.array_equal(found[:2], plain)
            expected = border_term(plain[1], 3.0) if number < 2 else np.zeros_like(plain[1])
            assert np.array_equal(found[2], expected)
    assert computed == [(40, 33), (20, 33)]


def test_the_cache_tells_masks_shapes_and_sigmas_apart(computed: list[tuple[int, ...]]) -> None:
    mask = masks()[1]
    other = mask.copy()
    other[0, 0] = 1
    kept_term(mask, 5.0)
    kept_term(other, 5.0)
    kept_term(mask, 4.0)
    kept_term(mask.reshape(20, 66), 5.0)
    assert len(computed) == 4
    for again in (mask, mask.astype(np.uint8, order="F")):
        assert np.array_equal(kept_term(again, 5.0), border_term(mask, 5.0))
    assert len(computed) == 4


@pytest.mark.parametrize("damage", ["short", "long", "bytes", "empty", "folder"])
def test_a_damaged_cache_is_made_again(computed: list[tuple[int, ...]], damage: str) -> None:
    import zlib

    mask = masks()[1]
    right = kept_term(mask, 5.0)
    (path,) = (cache_folder() / "borders").rglob("*.z")
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "short": content[:-5],
                "long": zlib.compress(bytes(10**6)),
                "bytes": content[:20] + bytes([content[20] ^ 255]) + content[21:],
                "empty": b"",
            }[damage]
        )
    assert np.array_equal(kept_term(mask, 5.0), right)
    assert len(computed) == 2
    assert np.array_equal(kept_term(mask, 5.0), right)
    assert len(computed) == (3 if damage == "folder" else 2)


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    computed: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.array_equal(kept_term(masks()[1], 5.0), border_term(masks()[1], 5.0))
    assert len(computed) == 1


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(Mistake, match="scipy") as caught:
        with_borders(image_set(), Segmentation(weight_map=True))
    assert caught.value.type_this == 'pip install "dltrain[maps]"'
