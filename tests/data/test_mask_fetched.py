"""Oxford-IIIT Pet and PASCAL VOC 2012: torchvision's folders read, on tiny ones; what is fetched goes there too."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.config import data, model
from dltrain.config.messages import Mistake
from dltrain.data import fetched_masks
from dltrain.data.imageset import ImageSet, open_set
from tests.data.conftest import config
from tests.data.masks import discs, photo

SETS = {"pets": data.Pets, "voc2012": data.Voc2012}


def lay_out(root: Path, name: str, train: int = 10, other: int = 4) -> None:
    """A few images as torchvision unpacks the set below `root`."""
    collection = {"pets": fetched_masks.PETS, "voc2012": fetched_masks.VOC2012}[name]
    folder = root / collection.folder
    number = 0
    for (split, place), count in zip(collection.lists.items(), (train, other), strict=True):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        stems = [f"{split}_{index}" for index in range(count)]
        text = "".join(f"{stem} 1 1 1\n" if name == "pets" else f"{stem}\n" for stem in stems)
        (folder / place).write_text(text)
        for stem in stems:
            mask = discs(number, 3)
            for path, made in (
                (folder / collection.images.format(stem), photo(mask, number)),
                (folder / collection.masks.format(stem), stored(mask, name)),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                made.save(path)
            number += 1


def stored(mask: np.ndarray[Any, Any], name: str) -> Image.Image:
    """Trimaps are grey, 1 to 3; VOC's masks palettes, with a border of 255."""
    if name == "pets":
        return Image.fromarray(mask + np.uint8(1))
    mask = mask.copy()
    mask[:2] = 255
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.reshape(-1).tolist())
    return image


def opened(name: str, root: Path | None, say: Callable[[str], None] = print, **keys: object) -> ImageSet:
    settings = SETS[name](root=None if root is None else str(root), **keys)
    return open_set(config(settings, model.UNet()), say)


def test_pets_are_read_as_torchvision_keeps_them(tmp_path: Path) -> None:
    lay_out(tmp_path, "pets")
    images = opened("pets", tmp_path)
    assert images.spec.counts == {"train": 9, "val": 1, "test": 4}
    assert images.spec.class_names == ("pet", "background", "border")
    assert images.spec.name == "pets"
    assert images.names is not None
    assert list(images.names[:2]) == ["images/train_0.jpg", "images/train_1.jpg"]
    assert np.array_equal(images.read(3)[-1], discs(3, 3))
    assert images.splits["test"].tolist() == [10, 11, 12, 13]
    assert opened("pets", tmp_path, val_share=0.3).spec.counts["val"] == 3


def test_voc2012_is_read_as_torchvision_keeps_it(tmp_path: Path) -> None:
    lay_out(tmp_path, "voc2012")
    images = opened("voc2012", tmp_path, size="16x20")
    assert images.spec.counts == {"train": 10, "val": 4}
    assert "no test images, so there is no test at the end" in images.spec.notes
    assert len(images.spec.class_names) == 21
    assert images.spec.class_names[15] == "person"
    images = opened("voc2012", tmp_path)
    expected = discs(3, 3)
    expected[:2] = 255
    assert np.array_equal(images.read(3)[-1], expected)


@pytest.mark.parametrize("name", SETS)
def test_torchvision_reads_the_same_from_these_folders(tmp_path: Path, name: str) -> None:
    """The oracle of the layout: torchvision's own classes, not told to fetch."""
    from torchvision.datasets import OxfordIIITPet, VOCSegmentation

    lay_out(tmp_path, name)
    images = opened(name, tmp_path)
    if name == "pets":
        theirs = OxfordIIITPet(tmp_path, target_types="segmentation")
    else:
        theirs = VOCSegmentation(tmp_path, image_set="train")
    assert len(theirs) == 10
    for number in range(10):
        image, mask = theirs[number]
        pixels = images.read(number)
        assert np.array_equal(pixels[:3], np.asarray(image).transpose(2, 0, 1))
        values = np.asarray(mask)
        assert np.array_equal(pixels[3], values - 1 if name == "pets" else values)


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_there_is_fetched_once_into_the_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTRAIN_DATA", str(tmp_path / "data"))
    fetched: list[Path] = []

    def fetch(root: Path) -> None:
        fetched.append(root)
        lay_out(root, name)

    attribute = "PETS" if name == "pets" else "VOC2012"
    monkeypatch.setattr(fetched_masks, attribute, replace(getattr(fetched_masks, attribute), fetch=fetch))
    said: list[str] = []
    first = opened(name, None, said.append)
    assert len(fetched) == 1
    assert said[0].startswith("fetching ")
    assert said[0].endswith(f"by torchvision into {tmp_path / 'data'}")
    assert opened(name, None).spec == first.spec
    assert len(fetched) == 1
    assert not fetched[0].exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [
        Path(first.spec.where).parts[len(tmp_path.parts) + 1]
    ]


def test_torchvision_is_asked_as_its_signature_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own classes run up to where they would open a connection; an archive in the root is not fetched again."""
    import torchvision.datasets.oxford_iiit_pet as pet
    import torchvision.datasets.voc as voc

    asked: list[tuple[str, Path]] = []

    def refuse(url: str, root: Any = None, download_root: Any = None, filename: Any = None, **_: Any) -> None:
        place = Path(root or download_root) / (filename or url.rsplit("/", 1)[1])
        asked.append((url, place))
        raise RuntimeError("there already" if place.is_file() else "no network")

    monkeypatch.setattr(pet, "download_and_extract_archive", refuse)
    monkeypatch.setattr(voc, "download_and_extract_archive", refuse)
    for name, archive in (("pets", "oxford-iiit-pet/images.tar.gz"), ("voc2012", "VOCtrainval_11-May-2012.tar")):
        with pytest.raises(Mistake, match=r"cannot be fetched \(no network\)") as caught:
            opened(name, tmp_path)
        assert str(tmp_path) in caught.value.allowed
        (tmp_path / archive).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / archive).write_bytes(b"x")
        with pytest.raises(Mistake, match="there already"):
            opened(name, tmp_path)
        assert (tmp_path / archive).is_file()
        assert asked[-1][1].parts[-len(Path(archive).parts) :] == Path(archive).parts
        assert list(tmp_path.glob(".fetching*")) == []


def test_what_is_wrong_with_settings_is_not_blamed_on_the_files(tmp_path: Path) -> None:
    lay_out(tmp_path, "pets")
    with pytest.raises(Mistake, match=r"data\.mean") as caught:
        opened("pets", tmp_path, mean=[0.5, 0.5], std=[0.5, 0.5])
    assert "original files" not in caught.value.allowed


def test_a_set_that_is_there_imports_no_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, "pets")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert opened("pets", tmp_path).spec.counts["test"] == 4


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "images" / "train_2.jpg").unlink(), "lacks images/train_2.jpg"),
        (lambda f: (f / "annotations" / "test.txt").write_text("../../x 1 1 1\n"), "is no list of names"),
        (lambda f: (f / "annotations" / "test.txt").unlink(), "test.txt cannot be read: No such file"),
        (lambda f: (f / "annotations" / "test.txt").write_bytes(b"\xff\xfe"), "cannot be read: is no text"),
        (lambda f: (f / "annotations" / "trimaps" / "train_1.png").write_bytes(b"x"), "train_1.png is not an image"),
        (
            lambda f: photo(discs(0), 0).save(f / "annotations" / "trimaps" / "train_1.png"),
            "1 of 14 masks have colours: annotations/trimaps/train_1.png",
        ),
    ],
)
def test_a_damaged_set_is_told_and_what_to_do(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    lay_out(tmp_path, "pets")
    folder = tmp_path / "oxford-iiit-pet"
    spoil(folder)
    with pytest.raises(Mistake) as caught:
        opened("pets", tmp_path)
    assert says in caught.value.what
    assert caught.value.allowed == f"the original files: move {folder} away and they are fetched"
    assert caught.value.type_this == ""
