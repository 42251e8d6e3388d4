"""A built wheel, unpacked somewhere else, finds its configs and its digits from any folder. Nothing is downloaded."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("dltrain", "configs", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel installs."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    built = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = place.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(place / "site")
    shutil.rmtree(source)
    return place / "site"


def dltrain(installed: Path, folder: Path, *words: str) -> str:
    program = f"import dltrain; assert dltrain.__file__.startswith({str(installed)!r}), dltrain.__file__\n"
    program += "from dltrain.cli import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *words],  # -P: not the working directory's
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_configs_the_digits_and_the_licences(installed: Path) -> None:
    ours = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    inside = installed / "dltrain" / "configs"
    assert {path.relative_to(inside) for path in inside.rglob("*.yaml")} == ours
    assert (installed / "dltrain" / "data" / "digits").is_dir()
    licences = [path.name for path in installed.glob("*.dist-info/licenses/**/*") if path.is_file()]
    assert len(licences) >= 2
    assert not (installed / "tests").exists()
    (points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "dltrain = dltrain.cli:entry" in points.read_text()


def test_it_trains_from_any_folder(installed: Path, tmp_path: Path) -> None:
    options = dltrain(installed, tmp_path, "--complete", "model=").split()
    assert {"model=lenet5", "model=mlp"} <= set(options)
    shown = dltrain(installed, tmp_path, "model=mlp", "trainer.steps=1", "trainer.threads=1", "log=quiet", "output=run")
    assert "test accuracy" in shown
    assert (tmp_path / "run" / "checkpoints" / "last.pt").is_file()
