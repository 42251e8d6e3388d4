"""What several tests of runs on disk share."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.run import Run, all_runs


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, where this process may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A working directory with one completed run: a LeNet-5 with an average, in channels-last, on 16 bit."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["model=lenet5", "precision=bf16", "trainer.ema=0.9", "trainer.steps=40", "trainer.threads=1"]
        assert main([*words, "log=quiet"]) == 0
    return place


FOLDER = ["data=folder", "data.root=photos", "data.size=16", "model=mlp", "model.widths=[8]", "trainer.epochs=2"]
FOLDER += ["trainer.batch_size=9", "trainer.threads=1", "log=quiet"]


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """36 small pictures in three folders, and a run on them, which takes a tenth of a second."""
    place = tmp_path_factory.mktemp("photos")
    draw = np.random.RandomState(0)
    for number, name in enumerate(("ant", "bee", "cat")):
        (place / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = draw.randint(0, 120, (16, 16, 3)).astype(np.uint8) + np.uint8(60 * number)
            Image.fromarray(pixels).save(place / "photos" / name / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(FOLDER) == 0
    return place


@pytest.fixture
def small(photos, tmp_path, monkeypatch):
    """A copy of that, for the test to spoil."""
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Run(all_runs()[0])


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A copy of it, for the test to spoil."""
    shutil.copytree(folder / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return Run(all_runs()[0])
