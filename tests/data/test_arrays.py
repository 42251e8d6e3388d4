"""A .npz file is read in every shape that images have, without pickles, and never beyond what it says it holds."""

import io
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.cli import main
from dltrain.config import data, model
from dltrain.config.messages import Mistake
from dltrain.config.spec import Target
from dltrain.data import decode_for, describe, npz, open_data
from dltrain.data.imageset import ImageSet, open_set
from dltrain.run import Run
from tests.data.conftest import config, quiet

N = 60
RNG = np.random.Generator(np.random.Philox(key=3))
GREY = RNG.integers(0, 256, (N, 9, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (N, 9, 7, 3), dtype=np.uint8)
LABELS = np.arange(N) % 3
VALUES = np.stack([np.arange(N) / 7, np.arange(N) % 5 - 2.0], axis=1)
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def make(**arrays: Any) -> Path:
        path = tmp_path / "set.npz"
        np.savez_compressed(path, **arrays)
        return path

    return make


def opened(path: Path, seed: int = 0, network: model.Model | None = None, **settings: Any) -> ImageSet:
    return open_set(config(data.Array(root=str(path), **settings), network, seed=seed), quiet)


def of_values(path: Path, **settings: Any) -> ImageSet:
    return opened(path, targets=data.TargetArray.values, **settings)


@pytest.mark.parametrize("kind", ["grey", "grey last", "grey first", "colour last", "colour first", "fortran"])
def test_every_shape_of_images_comes_to_the_same_pixels(save: Save, kind: str) -> None:
    given, expected = {
        "grey": (GREY, GREY[:, None]),
        "grey last": (GREY[..., None], GREY[:, None]),
        "grey first": (GREY[:, None], GREY[:, None]),
        "colour last": (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        "colour first": (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        "fortran": (np.asfortranarray(COLOUR), COLOUR.transpose(0, 3, 1, 2)),
    }[kind]
    images = opened(save(images=given, labels=LABELS))
    assert np.array_equal(images.read.everything(quiet), expected)
    assert np.array_equal(images.read(5), expected[5])
    assert images.spec.shape == expected.shape[1:]
    assert images.spec.target == Target.classes
    assert images.spec.class_names == ("0", "1", "2")
    assert images.spec.counts == {"train": 42, "val": 6, "test": 12}
    assert images.targets.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("shape", "seen", "noted"),
    [
        ((N, 1, 1, 2), (1, 1, 2), False),
        ((N, 1, 1), (1, 1, 1), False),
        ((N, 1, 1, 1), (1, 1, 1), False),
        ((N, 1, 1, 3), (3, 1, 1), False),
        ((N, 3, 1, 1), (1, 3, 1), True),
        ((N, 3, 5, 3), (3, 3, 5), True),
        ((N, 3, 5, 4), (3, 5, 4), False),
        ((N, 4, 3, 3), (3, 4, 3), False),
    ],
)
def test_small_images_and_what_is_taken_for_channels(
    save: Save, shape: tuple[int, ...], seen: tuple[int, ...], noted: bool
) -> None:
    spec = opened(save(images=np.resize(GREY, shape), labels=LABELS)).spec
    assert spec.shape == seen
    assert any("is taken for images x height x width x channels" in note for note in spec.notes) == noted


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i8", ">i4", "u8", "?"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_every_integer_type(save: Save, dtype: str, column: bool) -> None:
    labels = (LABELS % 2).astype(dtype)
    images = opened(save(images=GREY, labels=labels[:, None] if column else labels))
    assert images.targets.dtype == np.int64
    assert images.targets.tolist() == (LABELS % 2).tolist()


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "i4"])
def test_values_of_every_type_with_their_names(save: Save, dtype: str) -> None:
    values = VALUES.astype(dtype)
    images = of_values(save(images=GREY, values=values, value_names=np.array(["age", "b [cm]"])))
    assert images.spec.target == Target.values
    assert images.spec.value_names == ("age", "b [cm]")
    assert images.targets.dtype == np.float32
    assert np.array_equal(images.targets, values.astype(np.float32))
    train = images.targets[images.splits["train"]].astype(np.float64)
    assert images.spec.value_mean == pytest.approx(train.mean(0), rel=1e-12)
    assert images.spec.value_std == pytest.approx(train.std(0), rel=1e-12)


def test_values_without_names_are_numbered(save: Save) -> None:
    assert of_values(save(images=GREY, values=VALUES)).spec.value_names == ("value_0", "value_1")
    assert of_values(save(images=GREY, values=VALUES[:, 0])).spec.value_names == ("value",)


def test_the_layout_of_medmnist(save: Save) -> None:
    parts = {"train": slice(0, 30), "val": slice(30, 40), "test": slice(40, 60)}
    arrays = {f"{s}_images": COLOUR[part] for s, part in parts.items()}
    labels = {f"{s}_labels": LABELS[part, None].astype(np.uint8) for s, part in parts.items()}
    images = opened(save(**dict(reversed(arrays.items())), **labels))
    assert {name: numbers.tolist() for name, numbers in images.splits.items()} == {
        name: list(range(part.start, part.stop)) for name, part in parts.items()
    }
    assert np.array_equal(images.read.everything(quiet), COLOUR.transpose(0, 3, 1, 2))
    assert images.targets.tolist() == LABELS.tolist()
    del arrays["val_images"], labels["val_labels"]
    images = opened(save(**arrays, **labels))
    assert images.spec.counts == {"train": 27, "val": 3, "test": 20}
    assert "val cut from train by seed and class" in images.spec.notes


def test_split_and_groups_are_followed(save: Save) -> None:
    words = np.array(["train", "Train ", "val", "test", "train"])[np.arange(N) // 3 % 5]
    images = opened(save(images=GREY, labels=LABELS, split=words))
    for split in ("train", "val", "test"):
        expected = [n for n, word in enumerate(words) if word.strip().lower() == split]
        assert images.splits[split].tolist() == expected
    groups = np.arange(N) // 4
    images = opened(save(images=GREY, labels=LABELS, groups=groups))
    of = [{int(groups[n]) for n in numbers} for numbers in images.splits.values()]
    assert len(of) == 3
    assert all(not a & b for a, b in itertools.combinations(of, 2))
    ungrouped = opened(save(images=GREY, labels=LABELS))
    assert {int(groups[n]) for n in ungrouped.splits["train"]} & {int(groups[n]) for n in ungrouped.splits["test"]}


def test_class_names_may_be_text_or_bytes(save: Save) -> None:
    for names in (np.array(["rot", "grün", "blau"]), np.array([b"rot", "grün".encode(), b"blau"])):
        assert opened(save(images=GREY, labels=LABELS, class_names=names)).spec.class_names == ("rot", "grün", "blau")


def test_what_is_not_used_is_said(save: Save) -> None:
    spec = opened(save(images=GREY, labels=LABELS, values=VALUES, more=GREY)).spec
    assert "arrays that are not used: values, more" in spec.notes


def test_cut_by_seed(save: Save) -> None:
    path = save(images=GREY, labels=LABELS)
    first, again, other = (opened(path, seed=seed).splits["test"].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_statistics_are_those_of_the_training_pixels(save: Save) -> None:
    images = opened(save(images=COLOUR, labels=LABELS))
    pixels = COLOUR[images.splits["train"]].astype(np.float64) / 255
    assert images.spec.mean == pytest.approx(pixels.mean((0, 1, 2)), abs=5e-5)
    assert images.spec.std == pytest.approx(pixels.std((0, 1, 2)), abs=5e-5)


@pytest.mark.parametrize("size", ["auto", "5", "30x20"])
def test_another_size_is_reached_as_for_files(save: Save, size: str) -> None:
    """An image saved to a file and predicted must be what evaluation saw."""
    path = save(images=COLOUR, labels=LABELS)
    cfg = config(data.Array(root=str(path), size=size))
    images = open_set(cfg, quiet)
    assert images.read(4).shape == images.spec.shape
    everything = images.read.everything(quiet)
    read = decode_for(cfg, images.spec)
    for number in (0, 4):
        file = io.BytesIO()
        Image.fromarray(COLOUR[number]).save(file, "PNG")
        file.seek(0)
        assert np.array_equal(read(file), images.read(number))
        assert np.array_equal(everything[number], images.read(number))


def test_a_model_of_one_size_gets_it_resized(save: Save) -> None:
    spec = opened(save(images=GREY, labels=LABELS), network=model.LeNet5()).spec
    assert spec.shape == (1, 32, 32)
    assert any(note.startswith("images resized from 9x7 to 32x32") for note in spec.notes)


def bad(array: np.ndarray, number: Any) -> np.ndarray:
    out = array.copy()
    out[7] = number
    return out


S = data.TargetArray
GOOD = {"images": GREY, "labels": LABELS}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "it holds nothing, and neither images nor train_images"),
    "other names": ({"x_train": GREY, "y_train": LABELS}, "it holds x_train, y_train, and neither images"),
    "no labels": ({"images": GREY}, "images is there, and labels is not"),
    "no train": ({"test_images": GREY, "test_labels": LABELS}, "neither images nor train_images"),
    "no test labels": ({"train_images": GREY, "train_labels": LABELS, "test_images": GREY}, "test_labels is not"),
    "float images": ({"images": GREY / 255, "labels": LABELS}, "images is of type float64"),
    "bool images": ({"images": GREY > 9, "labels": LABELS}, "images is of type bool"),
    "int images": ({"images": GREY.astype(int), "labels": LABELS}, "images is of type int64"),
    "flat images": ({"images": GREY[:, 0], "labels": LABELS}, "images is 60 x 7"),
    "volumes": ({"images": np.zeros((N, 8, 8, 8), np.uint8), "labels": LABELS}, "images is 60 x 8 x 8 x 8"),
    "five axes": ({"images": COLOUR[None], "labels": LABELS}, "images is 1 x 60 x 9 x 7 x 3"),
    "one number": ({"images": np.uint8(3), "labels": LABELS}, "images is 1"),
    "no images": ({"images": GREY[:0], "labels": LABELS[:0]}, "images is 0 x 9 x 7"),
    "no pixels": ({"images": GREY[:, :0], "labels": LABELS}, "images is 60 x 0 x 7"),
    "too wide": ({"images": np.zeros((N, 1, 8193), np.uint8), "labels": LABELS}, "images is 60 x 1 x 8193"),
    "fewer labels": ({"images": GREY, "labels": LABELS[:-1]}, "images holds 60 images, labels 59"),
    "more labels": ({"images": GREY, "labels": np.tile(LABELS, 2)}, "images holds 60 images, labels 120"),
    "many labels": ({"images": GREY, "labels": np.zeros((N, 14), int)}, "labels is 60 x 14"),
    "one label": ({"images": GREY, "labels": 3}, "images holds 60 images, labels 1"),
    "float labels": ({"images": GREY, "labels": LABELS * 1.0}, "labels is of type float64"),
    "text labels": ({"images": GREY, "labels": LABELS.astype(str)}, "labels is of type <U"),
    "negative": ({"images": GREY, "labels": bad(LABELS, -1)}, "labels[7] is -1"),
    "huge": ({"images": GREY, "labels": bad(LABELS.astype("u8"), 2**63)}, "labels[7] is 9223372036854775808"),
    "a gap": ({"images": GREY, "labels": bad(LABELS, 10**9)}, "labels are from 0 to 1000000000, and 4 of these occur"),
    "from one on": ({"images": GREY, "labels": LABELS + 1}, "labels are from 1 to 3, and 3 of these occur"),
    "one class": ({"images": GREY, "labels": LABELS * 0}, "one class only, 0"),
    "few names": ({**GOOD, "class_names": np.array(["a", "b"])}, "a label 2, and class_names holds 2"),
    "name twice": ({**GOOD, "class_names": np.array(["a", "b", "a"])}, "a name twice"),
    "empty name": ({**GOOD, "class_names": np.array(["a", "", "c"])}, "an empty name"),
    "no text": ({**GOOD, "class_names": np.ones(3)}, "class_names is 3 of type float64"),
    "empty class": ({**GOOD, "class_names": np.array(list("abcd"))}, "too few images to split in d (0)"),
    "split word": ({**GOOD, "split": np.array(["train"] * 59 + ["dev"])}, "split[59] is dev"),
    "split count": ({**GOOD, "split": np.array(["train"])}, "split holds 1 texts for 60 images"),
    "no train words": ({**GOOD, "split": np.array(["val", "test"] * 30)}, "there is val and test, but no train"),
    "groups parted": (
        {**GOOD, "split": np.array(["train"] * 31 + ["val"] * 29), "groups": np.arange(N) // 2},
        "1 of 30 groups stand in more than one split: 15 (train, val)",
    ),
    "sizes": (
        {"train_images": GREY, "train_labels": LABELS, "val_images": GREY[:, 1:], "val_labels": LABELS},
        "images differ in shape: train_images 1 x 9 x 7, val_images 1 x 8 x 7",
    ),
    "nan": ({"images": GREY, "values": bad(VALUES, np.nan)}, "2 of 120 values are not finite, first values[7], nan"),
    "inf": ({"images": GREY, "values": bad(VALUES, 1e300)}, "first values[7], 1e+300"),
    "complex": ({"images": GREY, "values": VALUES * 1j}, "values holds complex128"),
    "text values": ({"images": GREY, "values": VALUES.astype(str)}, "values is 60 x 2 of type <U"),
    "cube of values": ({"images": GREY, "values": np.zeros((N, 2, 2))}, "values is 60 x 2 x 2"),
    "no values": ({"images": GREY, "values": np.zeros((N, 0))}, "values is 60 x 0"),
    "value names": ({"images": GREY, "values": VALUES, "value_names": np.array(["a"])}, "value_names holds 1 names"),
    "test class": (
        {"train_images": GREY, "train_labels": LABELS % 2, "test_images": GREY, "test_labels": LABELS},
        "too few images to split in 2 (0)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_used_is_named(save: Save, kind: str) -> None:
    arrays, says = WRONG[kind]
    path = save(**arrays)
    targets = S.values if "values" in arrays else S.labels
    with pytest.raises(Mistake) as caught:
        opened(path, targets=targets)
    assert caught.value.what.startswith(f"data.root={path}: ")
    assert says in caught.value.what
    assert caught.value.allowed


def test_the_other_targets_are_offered(save: Save) -> None:
    with pytest.raises(Mistake) as caught:
        opened(save(images=GREY, values=VALUES))
    assert caught.value.type_this == "data.targets=values"
    with pytest.raises(Mistake) as caught:
        of_values(save(train_images=GREY, train_labels=LABELS))
    assert caught.value.type_this == "data.targets=labels"


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("name", ["images", "labels", "class_names", "split", "groups"])
def test_a_pickle_in_any_array_is_refused_and_does_nothing(save: Save, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    evil = np.empty(N, dtype=object)
    evil[0] = Evil(canary)
    path = save(**{**GOOD, name: evil})
    np.load(path, allow_pickle=True)[name]
    assert canary.exists()  # the weapon works
    canary.unlink()
    with pytest.raises(Mistake, match=f"{name} holds Python objects"):
        opened(path)
    assert not canary.exists()


def raw(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + body


def head(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


HEADERS = {
    "no magic": (b"rubbish" * 10, "images is no array"),
    "cut": (npy(head("(9,)"))[:20], "images is no array"),
    "version": (npy(head("(9,)"), bytes(9), b"\x07\x00"), "images is no array"),
    "code": (npy("__import__('os').system('touch canary')"), "images is no array"),
    "nested": (npy("(" * 9000), "images is no array"),
    "long": (npy(head("(9,)") + " " * 20_000), "images is no array"),
    "other keys": (npy("{'shape': (9,)}"), "images is no array"),
    "negative": (npy(head("(-9, -1)"), bytes(9)), "neither numbers nor text"),
    "fewer bytes": (npy(head("(10,)"), bytes(9)), "says it has 10 bytes, and has 9"),
    "more bytes": (npy(head("(8,)"), bytes(9)), "says it has 8 bytes, and has 9"),
    "huge": (
        npy(head("(1000000000000, 1000000000000)"), bytes(9)),
        "says it has 1,000,000,000,000,000,000,000,000 bytes",
    ),
    "structure": (npy(head("(1,)", "[('a', '|u1'), ('b', '<f8')]"), bytes(9)), "neither numbers nor text"),
    "objects in it": (npy(head("(1,)", "[('a', '|O')]"), bytes(9)), "holds Python objects"),
    "void": (npy(head("(1,)", "'|V9'"), bytes(9)), "neither numbers nor text"),
    "empty text": (npy(head("(9,)", "'<U0'")), "neither numbers nor text"),
    "date": (npy(head("(1,)", "'<M8[s]'"), bytes(8)), "neither numbers nor text"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, says = HEADERS[kind]
    path = raw(tmp_path / "set.npz", {"images.npy": content, "labels.npy": npy(head("(9,)"), bytes(9))})
    with pytest.raises(Mistake) as caught:
        opened(path)
    assert says in caught.value.what
    assert not (tmp_path / "canary").exists()


def test_an_array_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 MB of zeros in 10 kB, on a machine of 5 MB; the same twice, each of which fits."""
    monkeypatch.setattr(npz, "_bytes", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(npz, "memory", lambda: 5_000_000)
    bomb = npy(head("(1000, 100, 100)"), bytes(10_000_000))
    path = raw(tmp_path / "set.npz", {"images.npy": bomb})
    assert path.stat().st_size < 20_000
    with npz.Npz(path) as file, pytest.raises(npz.NpzError, match="10,000,000 bytes, more than the memory"):
        file.read("images")
    monkeypatch.undo()
    monkeypatch.setattr(npz, "memory", lambda: 15_000_000)
    path = raw(tmp_path / "set.npz", {"a.npy": bomb, "b.npy": bomb})
    with npz.Npz(path) as file:
        assert file.read("a").nbytes == 10_000_000
        with pytest.raises(npz.NpzError, match="more than the memory that is left"):
            file.read("b")


@pytest.mark.parametrize("where", [60, 300, -200, -30])
def test_a_damaged_zip_is_told(save: Save, where: int) -> None:
    path = save(images=GREY, labels=LABELS)
    content = bytearray(path.read_bytes())
    for at in range(where, where + 8):
        content[at] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(Mistake, match=r"damaged|it holds|no array"):
        opened(path)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_npz_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(Mistake, match=r"it is no \.npz file|it holds nothing"):
        opened(tmp_path / "set.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_and_other_packings_are_refused(tmp_path: Path) -> None:
    content = npy(head("(9,)"), bytes(9))
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as file:
        file.writestr("images.npy", content)
        file.writestr("images.npy", content)
    with pytest.raises(Mistake, match="two arrays of one name"):
        opened(tmp_path / "set.npz")
    path = raw(tmp_path / "set.npz", {"images.npy": content, "labels.npy": content}, zipfile.ZIP_LZMA)
    with pytest.raises(Mistake, match="a way that NumPy does not use"):
        opened(path)


def test_names_in_the_file_are_safe_to_print(tmp_path: Path) -> None:
    path = raw(tmp_path / "set.npz", {"\x1b[31m.npy": b"", "../../canary.npy": b""})
    with pytest.raises(Mistake) as caught:
        opened(path)
    assert "\x1b" not in caught.value.what


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("targets", [S.labels, S.values])
@pytest.mark.parametrize("size", ["auto", "12x8"])
def test_both_loaders_give_the_same_bits(save: Save, workers: int, targets: data.TargetArray, size: str) -> None:
    path = save(images=COLOUR, labels=LABELS, values=VALUES)
    changes = data.Augment(flip=0.5, crop=1, rotate=10)
    cfg = config(data.Array(root=str(path), targets=targets, size=size, augment=changes), batch_size=8)
    cpu, spec = torch.device("cpu"), describe(cfg, quiet)
    resident = open_data(cfg, spec, cpu, "resident", 0, quiet)
    streaming = open_data(cfg, describe(cfg, quiet), cpu, "streaming", workers, quiet)
    others = streaming.batches(0)
    for a, b in zip(itertools.islice(resident.batches(0), 8), others, strict=False):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.ids, b.ids)
        assert a.targets is not None
        assert b.targets is not None
        assert torch.equal(a.targets, b.targets)
    others.close()  # type: ignore[attr-defined]
    for a, b in zip(resident.split("val"), streaming.split("val"), strict=True):
        assert torch.equal(a.images, b.images)
    streaming.close()


@pytest.mark.parametrize("targets", ["labels", "values"])
def test_it_trains_from_the_command_line(
    save: Save, targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(images=GREY, **{targets: LABELS if targets == "labels" else VALUES})
    words = ["data=array", f"data.root={path}", f"data.targets={targets}", "model=mlp", "model.widths=[8]"]
    words += ["trainer.epochs=1", "trainer.batch_size=16", "trainer.threads=1", "log=quiet"]
    assert main([*words, "output=run"]) == 0
    assert Run(Path("run")).read_config().task.name == ("classification" if targets == "labels" else "regression")
    path.write_bytes(b"rubbish")
    assert main([*words, "output=none"]) == 2
    assert not Path("none").exists()
