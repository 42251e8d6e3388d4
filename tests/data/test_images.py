"""Images without labels are found, split, and come in batches without targets; a generator learns from them."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.cli import main
from dltrain.config import data
from dltrain.config.messages import Mistake
from dltrain.config.spec import Target, spec_from_json, spec_to_json
from dltrain.data import describe, open_data
from dltrain.data.imageset import ImageSet, open_set
from tests.data.conftest import config, picture, quiet

MakeFolder = Callable[..., Path]


def opened(root: Path, seed: int = 0, size: str = "16") -> ImageSet:
    return open_set(config(data.ImagesOnly(root=str(root), size=size), seed=seed), quiet)


def names(images: ImageSet, split: str) -> list[str]:
    return [(images.names or [])[number] for number in images.splits[split]]


def test_images_are_found_however_deep_and_split_by_seed(make_folder: MakeFolder) -> None:
    root = make_folder({".": 10, "a": 10, "b/c/d": 10})
    images = opened(root)
    assert images.spec.target == Target.nothing
    assert images.spec.counts == {"train": 21, "val": 3, "test": 6}
    assert (images.spec.class_names, images.spec.value_names, images.spec.num_outputs) == ((), (), 0)
    assert images.targets.shape == (30, 0)
    assert sorted(images.names or []) == sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    assert "val and test cut from the images by seed" in images.spec.notes
    assert opened(root).splits["val"].tolist() == images.splits["val"].tolist()
    assert opened(root, seed=1).splits["val"].tolist() != images.splits["val"].tolist()


def test_a_spec_without_targets_is_written_and_read(make_folder: MakeFolder) -> None:
    import json

    spec = opened(make_folder({".": 10})).spec
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_split_folders_are_followed(make_folder: MakeFolder) -> None:
    root = make_folder({"train/x": 6, "train": 2, "val": 3, "test": 4, "more": 5, ".": 1})
    images = opened(root)
    assert images.spec.counts == {"train": 8, "val": 3, "test": 4}
    assert all(name.startswith("val/") for name in names(images, "val"))
    assert "left out, being none of train, val, test: more, the images beside them" in images.spec.notes


def test_a_folder_called_train_alone_is_a_folder_of_images(make_folder: MakeFolder) -> None:
    assert sum(opened(make_folder({"train": 10, "bus": 10})).spec.counts.values()) == 20


def test_images_of_any_size_and_kind(tmp_path: Path) -> None:
    """Transparency is laid over white, as everywhere."""
    root = tmp_path / "set"
    root.mkdir()
    clear = Image.new("RGBA", (30, 8), (255, 0, 0, 0))
    clear.save(root / "a.png")
    picture(5, 90, 1).save(root / "b.jpg")
    for number in range(8):
        picture(20 + number, 20, number, mode="L").save(root / f"{number}.png")
    (root / "notes.txt").write_text("")
    (root / "link.png").symlink_to("a.png")
    images = opened(root, size="7x9")
    assert images.spec.shape == (3, 7, 9)
    pixels = {name: images.read(number) for number, name in enumerate(images.names or [])}
    assert pixels["a.png"].min() == 255
    assert np.array_equal(images.read.everything(quiet)[(list(images.names or [])).index("b.jpg")], pixels["b.jpg"])
    assert any("by name no images: notes.txt" in note for note in images.spec.notes)
    assert "1 of 10 images may be transparent in parts: seen over white" in images.spec.notes
    assert any("1 link left out" in note for note in images.spec.notes)
    assert {entry.file for entry in images.left_out} == {"notes.txt", "link.png"}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_no_targets_and_both_loaders_the_same_bits(make_folder: MakeFolder, workers: int) -> None:
    settings = data.ImagesOnly(root=str(make_folder({".": 24})), size="12", augment=data.Augment(flip=0.5, crop=2))
    cfg = config(settings, batch_size=4)
    cpu, spec = torch.device("cpu"), describe(cfg, quiet)
    resident = open_data(cfg, spec, cpu, "resident", 0, quiet)
    streaming = open_data(cfg, describe(cfg, quiet), cpu, "streaming", workers, quiet)
    others = streaming.batches(0)
    for a, b in zip(itertools.islice(resident.batches(0), 6), others, strict=False):
        assert a.targets is None
        assert b.targets is None
        assert a.images.shape == (4, 3, 12, 12)
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.ids, b.ids)
    others.close()  # type: ignore[attr-defined]
    for a, b in zip(resident.split("val"), streaming.split("val"), strict=True):
        assert a.targets is None
        assert torch.equal(a.images, b.images)
    assert resident.targets("train") is None
    assert set(resident.digests()) == {"train", "val", "test"}
    streaming.close()


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ({}, "no images in it"),
        ({"train": 5, "val": 0}, "no images in val"),
        ({".": 2}, "too few images to split"),
    ],
)
def test_nothing_to_look_at_is_told(make_folder: MakeFolder, folders: dict[str, int], says: str) -> None:
    root = make_folder(folders)
    root.mkdir(exist_ok=True)
    with pytest.raises(Mistake, match=says):
        opened(root)


def test_a_network_with_answers_is_refused_and_the_message_says_which_learns_from_it(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder({".": 10})
    assert main(["data=images", f"data.root={root}"]) == 2
    said = capsys.readouterr()
    text = said.out + said.err
    assert "and data=images has images alone" in text
    assert f"dltrain data=images data.root={root} model=dcgan" in text
