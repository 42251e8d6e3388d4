"""idx files are found in three layouts, checked, or fetched whole; anything else is told in words."""

import gzip
import hashlib
import io
import struct
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltrain.config import data, model
from dltrain.config.messages import Mistake
from dltrain.data import fetch as fetching
from dltrain.data import mnist
from dltrain.data.idx import IdxError, parse, read_bytes
from dltrain.data.imageset import open_set
from tests.data.conftest import config, quiet


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A set of 200 + 20 images in place of MNIST; returns its files."""
    rng = np.random.Generator(np.random.Philox(key=1))
    arrays = [
        rng.integers(0, 256, (200, 28, 28), dtype=np.uint8),
        (np.arange(200) % 10).astype(np.uint8),
        rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        (np.arange(20) % 10).astype(np.uint8),
    ]
    files = {name: idx(array) for name, array in zip(mnist.FILES, arrays, strict=True)}
    packed = {name: gzip.compress(content, mtime=0) for name, content in files.items()}
    fake = replace(
        mnist.MNIST,
        mirrors=("https://first.invalid/", "https://second.invalid/"),
        md5=tuple(hashlib.md5(content).hexdigest() for content in packed.values()),
        sha256=tuple(hashlib.sha256(content).hexdigest() for content in files.values()),
    )
    monkeypatch.setattr(mnist, "MNIST", fake)
    return files


def place(folder: Path, files: dict[str, bytes], packed: bool = False) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["MNIST/raw", "raw", ""])
def test_files_are_found_where_they_usually_lie(
    tmp_path: Path, tiny: dict[str, bytes], layout: str, packed: bool
) -> None:
    place(tmp_path / "root" / layout, tiny, packed)
    images = open_set(config(data.Mnist(root=str(tmp_path / "root"), val_share=0.2)), quiet)
    assert images.spec.counts == {"train": 160, "val": 40, "test": 20}
    assert images.read(3).tobytes() == tiny[mnist.FILES[0]][16 + 3 * 784 :][:784]
    assert images.read(203).tobytes() == tiny[mnist.FILES[2]][16 + 3 * 784 :][:784]
    assert images.targets[[3, 203]].tolist() == [3, 3]
    assert images.splits["test"].tolist() == list(range(200, 220))


def test_the_environment_names_the_folder(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path / "given" / "MNIST" / "raw", tiny)
    monkeypatch.setenv("DLTRAIN_DATA", str(tmp_path / "given"))
    assert open_set(config(data.Mnist()), quiet).spec.where == str(tmp_path / "given")


def test_val_is_cut_by_seed_and_class(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    place(tmp_path / "root", tiny)
    settings = data.Mnist(root=str(tmp_path / "root"))
    first, again, other = (open_set(config(settings, seed=seed), quiet) for seed in (0, 0, 1))
    assert first.splits["val"].tolist() == again.splits["val"].tolist()
    assert first.splits["val"].tolist() != other.splits["val"].tolist()
    for images in (first, other):
        assert np.bincount(images.targets[images.splits["val"]]).tolist() == [2] * 10
        together = np.concatenate([images.splits["train"], images.splits["val"]])
        assert sorted(together.tolist()) == list(range(200))


def test_first_use_fetches_each_file_whole_and_the_second_use_none(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(url: str, **_: Any) -> io.BytesIO:
        asked.append(url)
        if "first" in url:
            return io.BytesIO(b"<html>not here</html>")
        return io.BytesIO(gzip.compress(tiny[url.rsplit("/", 1)[1].removesuffix(".gz")], mtime=0))

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    said: list[str] = []
    settings = data.Mnist(root=str(tmp_path / "new"))
    images = open_set(config(settings), said.append)
    assert len(asked) == 8
    assert len(said) == 8
    assert "second.invalid" in said[1]
    assert images.spec.counts["test"] == 20
    folder = tmp_path / "new" / "MNIST" / "raw"
    assert sorted(path.name for path in folder.iterdir()) == sorted(mnist.FILES)
    assert (folder / mnist.FILES[0]).read_bytes() == tiny[mnist.FILES[0]]
    open_set(config(settings), quiet)
    assert len(asked) == 8


@pytest.mark.usefixtures("tiny")
def test_without_network_the_message_says_where_files_belong_and_what_works(tmp_path: Path) -> None:
    with pytest.raises(Mistake) as caught:
        open_set(config(data.Mnist(root=str(tmp_path / "none"))), quiet)
    assert str(tmp_path / "none" / "MNIST" / "raw") in caught.value.allowed
    assert all(name in caught.value.allowed for name in mnist.FILES)
    assert caught.value.type_this == "dltrain data=digits"
    assert not (tmp_path / "none").exists()


def test_a_download_with_another_checksum_leaves_nothing(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {**tiny, mnist.FILES[0]: tiny[mnist.FILES[0]][:-1] + b"\0"}
    monkeypatch.setattr(
        urllib.request,
        "urlopen",
        lambda url, **_: io.BytesIO(gzip.compress(broken[url.rsplit("/", 1)[1].removesuffix(".gz")], mtime=0)),
    )
    with pytest.raises(Mistake, match="another checksum"):
        open_set(config(data.Mnist(root=str(tmp_path / "new"))), quiet)
    assert not list(tmp_path.rglob("*ubyte*"))


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    place(tmp_path / "root", {**tiny, mnist.FILES[1]: tiny[mnist.FILES[1]][:-1]})
    with pytest.raises(Mistake, match="train-labels-idx1-ubyte is not MNIST's"):
        open_set(config(data.Mnist(root=str(tmp_path / "root"))), quiet)


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return bytes(size or 0)

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, **_: Endless())
    with pytest.raises(fetching.FetchError, match="more than"):
        fetching.fetch("https://x.invalid/", 1_000_000, "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "fewer than an idx header"),
        (b"\0\0\x08\x01" + struct.pack(">I", 8) + b"abcdefgh", "begins with 00000801"),
        (b"\0\0\x0d\x03" + bytes(12), "begins with 00000d03"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(100), "has 100 values"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1), "has 0 values"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 1, 2, 2) + bytes(5), "has 5 values"),
    ],
)
def test_a_wrong_idx_header_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(IdxError, match=says):
        parse(content, 3)


def test_a_gzip_bomb_and_a_cut_gzip_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(IdxError, match="more than"):
        read_bytes(bomb, 1_000_000)
    bomb.write_bytes(bomb.read_bytes()[:-20])
    with pytest.raises(IdxError, match="ends in the middle"):
        read_bytes(bomb, 10_000_000)
    bomb.write_bytes(b"no gzip")
    with pytest.raises(IdxError, match="no gzip file"):
        read_bytes(bomb, 1_000_000)


@pytest.mark.parametrize(("settings", "title"), [(data.Mnist, "MNIST"), (data.FashionMnist, "FashionMNIST")])
def test_the_real_sets_are_read_and_their_constants_are_right(
    shared: Path, settings: type[data.Fetched], title: str
) -> None:
    if not (shared / title).is_dir():
        pytest.skip(f"no {title} in {shared}")
    images = open_set(config(settings(root=str(shared)), model.LeNet5()), quiet)
    assert images.spec.counts == {"train": 54000, "val": 6000, "test": 10000}
    assert images.spec.shape == (1, 32, 32)
    raw = (shared / title / "raw" / mnist.FILES[0]).read_bytes()
    pixels = np.frombuffer(raw, np.uint8, offset=16).astype(np.int64)
    mean = pixels.sum() / pixels.size / 255
    deviation = np.sqrt((pixels**2).sum() / pixels.size / 255**2 - mean**2)
    assert images.spec.mean == pytest.approx((mean,), abs=5e-5)
    assert images.spec.std == pytest.approx((deviation,), abs=5e-5)


def test_checksums_are_those_torchvision_uses_and_mirrors_are_https() -> None:
    from torchvision import datasets

    for ours, theirs in ((mnist.MNIST, datasets.MNIST), (mnist.FASHION_MNIST, datasets.FashionMNIST)):
        expected = [(f"{name}.gz", md5) for name, md5 in zip(mnist.FILES, ours.md5, strict=True)]
        assert expected == theirs.resources
        assert all(mirror.startswith("https://") for mirror in ours.mirrors)
