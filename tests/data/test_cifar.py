"""CIFAR's files are found in both versions, unpacked or fetched, checked bit for bit, and never unpickled."""

import hashlib
import io
import pickle
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltrain.config import data
from dltrain.config.messages import Mistake
from dltrain.data import cifar, fetch, scan
from dltrain.data.cifar_python import records_in
from dltrain.data.imageset import ImageSet, open_set
from tests.data.conftest import config, quiet

SETTINGS: dict[str, type[data.Fetched]] = {"CIFAR10": data.Cifar10, "CIFAR100": data.Cifar100}
real_urlopen = urllib.request.urlopen


class Small:
    """A set of 40 records a training file and 20 in the test file in place of CIFAR-10 or CIFAR-100."""

    def __init__(self, which: str) -> None:
        real: cifar.Collection = getattr(cifar, which)
        rng = np.random.Generator(np.random.Philox(key=7))
        classes, labels = len(real.class_names), len(real.labels)
        self.records = {}
        for file in real.files:
            count = 20 if file is real.files[-1] else 40
            records = rng.integers(0, 256, (count, labels + 3072), dtype=np.uint8)
            records[:, labels - 1] = np.arange(count) % min(classes, 10)
            records[:, : labels - 1] %= 20
            self.records[file.name] = records
        files = tuple(
            replace_file(
                file, len(self.records[file.name]), hashlib.sha256(self.records[file.name].tobytes()).hexdigest()
            )
            for file in real.files
        )
        self.archive = pack({f"{real.folder}/{name}": r.tobytes() for name, r in self.records.items()})
        self.set = replace(real, files=files, **self.sums(self.archive))
        self.settings = SETTINGS[which]

    @staticmethod
    def sums(archive: bytes) -> dict[str, Any]:
        digests = {name: hashlib.new(name, archive).hexdigest() for name in ("md5", "sha256")}
        return {"size": len(archive), **digests}

    def write_binary(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, records in self.records.items():
            (folder / name).write_bytes(records.tobytes())

    def write_python(self, folder: Path, fortran: bool = False) -> None:
        folder.mkdir(parents=True)
        for file in self.set.files:
            (folder / file.python).write_bytes(python2(self.records[file.name], self.set.labels, fortran))

    def open(self, root: Path | None, say: Callable[[str], None] = quiet, seed: int = 0) -> ImageSet:
        settings = self.settings(root=None if root is None else str(root), val_share=0.25)
        return open_set(config(settings, seed=seed), say)


def replace_file(file: cifar.File, records: int, sha256: str) -> cifar.File:
    return file._replace(records=records, sha256=sha256)


def pack(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def string(text: bytes) -> bytes:
    """A string as Python 2 pickles it."""
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + len(text).to_bytes(4, "little") + text


def numbers(values: np.ndarray) -> bytes:
    """A list of small integers, appended a thousand at a time as Python 2's cPickle does."""
    parts = [values[start : start + 1000] for start in range(0, len(values), 1000)]
    return b"]" + b"".join(b"(" + b"".join(b"K" + bytes([v]) for v in part.tolist()) + b"e" for part in parts)


def python2(records: np.ndarray, labels: tuple[str, ...], fortran: bool = False) -> bytes:
    """A file of the Python version as Python 2 wrote it: protocol 2, strings of bytes, a pickled array."""
    count, pixels = len(records), records[:, len(labels) :]
    shape = b"K" + bytes([count]) + b"M\x00\x0c\x86"
    dtype = b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R(K\x03" + string(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R(K\x01" + shape
    content = string(pixels.T.tobytes() if fortran else pixels.tobytes())
    array += dtype + (b"\x88" if fortran else b"\x89") + content + b"tb"
    names = b"](" + b"".join(string(b"leptodactylus_s_%06d.png" % n) for n in range(count)) + b"e"
    entries = [string(b"batch_label") + string(b"training batch 1 of 5")]
    entries += [string(name.encode()) + numbers(records[:, column]) for column, name in enumerate(labels)]
    entries += [string(b"data") + array, string(b"filenames") + names]
    return b"\x80\x02}(" + b"".join(entries) + b"u."


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Small:
    made = Small(request.param)
    monkeypatch.setattr(cifar, request.param, made.set)
    return made


def same(images: ImageSet, small: Small) -> bool:
    """Whether the set holds exactly the records."""
    together = np.concatenate(list(small.records.values()))
    pixels = images.read.everything(quiet)
    labels = len(small.set.labels)
    return pixels.reshape(len(pixels), -1).tobytes() == together[:, labels:].tobytes() and (
        images.targets.tolist() == together[:, labels - 1].tolist()
    )


@pytest.mark.parametrize("inside", [True, False])
def test_unpacked_files_are_found(tmp_path: Path, small: Small, inside: bool) -> None:
    small.write_binary(tmp_path / "root" / small.set.folder)
    images = small.open(tmp_path / "root" if inside else tmp_path / "root" / small.set.folder)
    train = sum(len(r) for r in small.records.values()) - 20
    assert images.spec.counts == {"train": train * 3 // 4, "val": train // 4, "test": 20}
    assert images.splits["test"].tolist() == list(range(train, train + 20))
    assert sorted(np.concatenate([images.splits["train"], images.splits["val"]]).tolist()) == list(range(train))
    assert images.spec.shape == (3, 32, 32)
    assert images.spec.where == str(tmp_path / "root" / small.set.folder)
    assert same(images, small)
    assert images.read(3).dtype == np.uint8


def test_a_pixel_is_where_the_authors_say(tmp_path: Path, small: Small) -> None:
    """The first 1,024 bytes are red, the first 32 of them its first row."""
    small.write_binary(tmp_path / small.set.folder)
    raw = small.records[small.set.files[0].name][5]
    image = small.open(tmp_path).read(5)
    for channel, row, column in ((0, 0, 31), (1, 2, 3), (2, 31, 0)):
        assert image[channel, row, column] == raw[len(small.set.labels) + channel * 1024 + row * 32 + column]


def test_cifar100_learns_the_fine_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Small("CIFAR100")
    monkeypatch.setattr(cifar, "CIFAR100", made.set)
    made.write_binary(tmp_path / made.set.folder)
    images = made.open(tmp_path)
    assert images.targets.tolist() == [*(np.arange(40) % 10), *(np.arange(20) % 10)]
    assert images.spec.num_outputs == 100


def test_val_is_cut_by_seed(tmp_path: Path, small: Small) -> None:
    small.write_binary(tmp_path / small.set.folder)
    first, again, other = (small.open(tmp_path, seed=seed).splits["val"].tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("inside", [True, False])
def test_torchvisions_files_give_the_same_bits_and_are_not_unpickled(
    tmp_path: Path, small: Small, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle of the test's own pickles is Python's unpickler, which finds the same array and labels in them."""
    small.write_python(tmp_path / small.set.python_folder)
    for file in small.set.files:
        whole = pickle.loads((tmp_path / small.set.python_folder / file.python).read_bytes(), encoding="latin1")
        assert np.array_equal(whole["data"], small.records[file.name][:, len(small.set.labels) :])
        assert whole[small.set.labels[-1]] == small.records[file.name][:, len(small.set.labels) - 1].tolist()
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("unpickled"))
    said: list[str] = []
    images = small.open(tmp_path if inside else tmp_path / small.set.python_folder, said.append)
    assert same(images, small)
    assert len(said) == 1
    assert "Python version" in said[0]


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def test_a_hostile_pickle_does_nothing(tmp_path: Path, small: Small) -> None:
    folder, canary = tmp_path / small.set.python_folder, tmp_path / "canary"
    small.write_python(folder)
    victim = folder / small.set.files[0].python
    good = victim.read_bytes()
    call = pickle.dumps(Evil(canary), protocol=2)[2:-1]  # without its head and its end
    pickle.loads(b"\x80\x02" + call + b".")
    assert canary.exists()  # the weapon works
    canary.unlink()
    victim.write_bytes(b"\x80\x02" + call + b"0" + good[2:])
    assert same(small.open(tmp_path), small)  # the records are right all the same, and nothing was called
    assert not canary.exists()


RUBBISH: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "text": lambda good: b"<html>404</html>",
    "cut": lambda good: good[: len(good) // 2],
    "long string": lambda good: b"\x80\x02T\xff\xff\xff\x7f",
    "negative string": lambda good: b"\x80\x02T\xff\xff\xff\xff",
    "long number": lambda good: b"\x80\x02L" + b"9" * 100_000 + b"\n.",
    "unknown operation": lambda good: b"\x80\x02\xff.",
    "no data": lambda good: pickle.dumps({"labels": [1]}, protocol=2),
    "labels lack one": lambda good: good.replace(b"K\x09K\x00K\x01", b"K\x09K\x00", 1),
    "another pixel": lambda good: good[:-5000] + bytes([good[-5000] ^ 1]) + good[-4999:],
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_what_is_no_python_version_is_said_and_not_used(tmp_path: Path, small: Small, kind: str) -> None:
    folder = tmp_path / small.set.python_folder
    small.write_python(folder)
    victim = folder / small.set.files[0].python
    victim.write_bytes(RUBBISH[kind](victim.read_bytes()))
    said: list[str] = []
    with pytest.raises(Mistake, match="cannot be fetched"):
        small.open(tmp_path, said.append)
    assert str(victim) in said[1]
    assert said[1].endswith(": not used")


def test_another_order_of_the_array_is_not_taken_for_right(tmp_path: Path, small: Small) -> None:
    small.write_python(tmp_path / small.set.python_folder, fortran=True)
    said: list[str] = []
    with pytest.raises(Mistake):
        small.open(tmp_path, said.append)
    assert "another SHA-256: not used" in said[1]


def test_a_pickle_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(ValueError, match="too large"):
        records_in(tmp_path / "huge", 10_000, ("labels",))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw[:-1], "has .* bytes, 40 records take"),
        (lambda raw: raw + b"\0", "has .* bytes"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "another SHA-256"),
        (lambda raw: bytes([11]) + raw[1:], "another SHA-256"),
        (None, "lacks"),
    ],
)
def test_a_damaged_or_missing_file_is_named(
    tmp_path: Path, small: Small, damage: Callable[[bytes], bytes] | None, says: str
) -> None:
    folder = tmp_path / small.set.folder
    small.write_binary(folder)
    victim = folder / small.set.files[0].name
    if damage is None:
        victim.unlink()
    else:
        victim.write_bytes(damage(victim.read_bytes()))
    with pytest.raises(Mistake, match=says) as caught:
        small.open(tmp_path)
    assert small.set.files[0].name in caught.value.what
    assert str(folder) in caught.value.what


def test_an_archive_that_lies_there_is_unpacked_and_kept(tmp_path: Path, small: Small) -> None:
    (tmp_path / small.set.archive).write_bytes(small.archive)
    said: list[str] = []
    assert same(small.open(tmp_path, said.append), small)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([small.set.archive, small.set.folder])
    assert said == [f"unpacking {tmp_path / small.set.archive}"]
    small.open(tmp_path, lambda text: pytest.fail(text))


@pytest.mark.parametrize("damage", [b"", b"!"])
def test_another_archive_is_refused_before_it_is_unpacked(
    tmp_path: Path, small: Small, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "extract", lambda *_: pytest.fail("unpacked"))
    (tmp_path / small.set.archive).write_bytes(small.archive[:-1] + damage)
    with pytest.raises(Mistake, match=r"has .* bytes|another SHA-256") as caught:
        small.open(tmp_path)
    assert str(tmp_path / small.set.archive) in caught.value.what


def test_an_archive_of_the_right_checksum_is_still_not_trusted(
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = pack({f"{small.set.folder}/../../canary": b"dead"})
    monkeypatch.setattr(cifar, small.set.title.replace("-", ""), replace(small.set, **Small.sums(bad)))
    (tmp_path / small.set.archive).write_bytes(bad)
    with pytest.raises(Mistake, match="not unpacked"):
        small.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [small.set.archive]


@pytest.fixture
def served(small: Small, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The archive from a server on this machine; what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(small.archive)

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}/{small.set.archive}"
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: real_urlopen(here, timeout=timeout))
    yield asked
    server.shutdown()
    server.server_close()


def test_first_use_fetches_with_progress_and_the_second_use_does_not(
    tmp_path: Path, small: Small, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "EVERY", -1.0)
    monkeypatch.setattr(cifar, "MEGABYTE", 1000)
    monkeypatch.setenv("DLTRAIN_DATA", str(tmp_path / "new"))
    said: list[str] = []
    assert same(small.open(None, said.append), small)
    total = f"{len(small.archive) // 1000:,}"
    assert said[0] == f"fetching {small.set.title} ({total} MB) from www.cs.toronto.edu into {tmp_path / 'new'}"
    assert said[1].startswith(f"fetching {small.set.title}: ")
    assert said[-2] == f"fetching {small.set.title}: {total} of {total} MB"
    assert said[-1].startswith("unpacking")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [small.set.folder]
    assert same(small.open(None, lambda text: pytest.fail(text)), small)
    assert len(served) == 1


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("what", ["cut", "other", "more"])
def test_a_download_that_is_not_the_archive_leaves_nothing(tmp_path: Path, small: Small, what: str) -> None:
    right = small.archive
    small.archive = {"cut": right[:-1], "other": right[:-1] + bytes([right[-1] ^ 1]), "more": right + b"\0"}[what]
    with pytest.raises(Mistake, match=r"another checksum|sent more than"):
        small.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_hidden_until_it_is_known_to_be_right(
    tmp_path: Path, small: Small, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    during: set[str] = set()
    real = fetch._blocks

    def watched(url: str, most: int) -> Iterator[bytes]:
        for block in real(url, most):
            during.update(path.name for path in tmp_path.iterdir())
            yield block

    monkeypatch.setattr(fetch, "_blocks", watched)
    small.open(tmp_path)
    (part,) = during
    assert part.startswith(f".{small.set.archive}.")
    assert part.endswith(".part")


@pytest.mark.usefixtures("served")
def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(text: str) -> None:
        if "of" in text and "MB" in text and text.startswith(f"fetching {small.set.title}:"):
            raise KeyboardInterrupt

    monkeypatch.setattr(scan, "EVERY", -1.0)
    with pytest.raises(KeyboardInterrupt):
        small.open(tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("served")
def test_another_process_may_be_faster(tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cifar.extract

    def late(archive: Path, target: Path, *rest: int) -> None:
        real(archive, target, *rest)
        archive.unlink()
        real_archive = tmp_path / "again.tar.gz"
        real_archive.write_bytes(small.archive)
        try:
            real(real_archive, target, *rest)
        finally:
            real_archive.unlink()

    monkeypatch.setattr(cifar, "extract", late)
    assert same(small.open(tmp_path), small)
    assert [path.name for path in tmp_path.iterdir()] == [small.set.folder]


def test_without_network_the_message_says_what_belongs_where(tmp_path: Path, small: Small) -> None:
    with pytest.raises(Mistake, match="the network is off") as caught:
        small.open(tmp_path / "none")
    for text in (small.set.archive, small.set.folder, small.set.python_folder, str(tmp_path / "none")):
        assert text in caught.value.allowed


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, small: Small, served: list[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Mistake, match="cannot be written to"):
        small.open(tmp_path / "file" / "below")
    assert served == []


def test_names_and_python_files_are_those_of_torchvision_and_the_address_is_https() -> None:
    from torchvision import datasets

    for ours, theirs in ((cifar.CIFAR10, datasets.CIFAR10), (cifar.CIFAR100, datasets.CIFAR100)):
        assert [file.python for file in ours.files] == [name for name, _ in theirs.train_list + theirs.test_list]
        assert ours.python_folder == theirs.base_folder
        assert ours.url == theirs.url.replace("python", "binary")
        assert ours.url.startswith("https://")
        assert sum(file.records for file in ours.files) == 60_000
    assert len(set(cifar.CIFAR100.class_names)) == 100
    assert list(cifar.CIFAR100.class_names) == sorted(cifar.CIFAR100.class_names)
    assert list(cifar.CIFAR10.class_names) == sorted(cifar.CIFAR10.class_names)
