"""Data tests write to temporary folders only and reach no network."""

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.config import data, groups, model
from dltrain.config.mode import Train
from tests.real_data import MISSING, SHARED


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no $DLTRAIN_DATA, and a network that answers with an error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("DLTRAIN_DATA", raising=False)

    def refuse(url: Any, **_: Any) -> None:
        raise OSError(f"the network is off in tests: {url}")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def shared() -> Path:
    """The folder of real data that is not part of the project."""
    if not (SHARED / "MNIST").is_dir():
        pytest.skip(MISSING)
    return SHARED


def config(settings: data.Data, network: model.Model | None = None, batch_size: int = 16, seed: int = 0) -> Train:
    """A training config of this data set."""
    trainer = groups.Trainer(batch_size=batch_size)
    return Train(seed=seed, data=settings, model=network or model.MLP(), trainer=trainer)


def quiet(_: str) -> None:
    """A `say` that says nothing."""


def picture(height: int, width: int, seed: int, mode: str = "RGB") -> Image.Image:
    """An image with smooth content that differs by seed."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [np.sin(rows / (3 + seed % 5) + k) * np.cos(columns / (4 + seed % 3) + seed) for k in range(3)]
    pixels = ((np.stack(planes, -1) + 1) * 127.5).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes class folders of PNG images: `make_folder({"cat": 5, "dog": 5})`, names may be paths."""

    def make(counts: dict[str, int], size: tuple[int, int] = (20, 24), mode: str = "RGB", name: str = "set") -> Path:
        root = tmp_path / name
        for label, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture(*size, seed=100 * label + number, mode=mode).save(root / folder / f"{number:03d}.png")
        return root

    return make
