"""docs/masks.md: its commands parse, those for folders of your own train, and dirty masks are told as it shows."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.config import table
from dltrain.config.compose import compose
from dltrain.config.precheck import precheck
from tests.data.masks import Classes, save_pairs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "masks.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"<!-- dirty -->\n(.*?)<!-- /dirty -->", re.DOTALL)
COMMANDS = [line.strip() for line in SHOWN.sub("", PAGE).splitlines() if line.startswith("    dltrain ")]
COMMANDS += re.findall(r"`(dltrain [^`]+)`", PAGE)
OWN = [line for line in COMMANDS if "data=mask_folder" in line]
SHORT = ["model.base_channels=1", "model.depth=2", "trainer.steps=1", "trainer.threads=1", "log=quiet"]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_on_the_page_parses(line: str) -> None:
    compose(precheck(shlex.split(line)[1:]))


@pytest.mark.parametrize("line", OWN)
def test_the_commands_for_folders_of_your_own_train(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    white = 255 if "mask_values" in line else 1
    save_pairs(Path("cells"), lambda mask, _: Image.fromarray(mask * np.uint8(white)))
    colors = np.array([[0, 0, 0], [128, 64, 128]], np.uint8)
    for split in ("train", "val", "test"):
        save_pairs(Path("streets"), lambda mask, _: Image.fromarray(colors[mask]), count=3, below=split)
    assert main([*shlex.split(line)[1:], *SHORT]) == 0, capsys.readouterr().err


def test_the_page_has_commands_and_names_every_set_with_masks() -> None:
    assert len(OWN) == 3
    sets = [name for name in table.options("data") if table.schema("data", name).kind == "mask"]  # type: ignore[attr-defined]
    assert set(sets) - {"mask_folder"} == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    for key in re.findall(r"`data\.(\w+)", PAGE):
        assert any(hasattr(table.schema("data", name)(), key) for name in sets), key
    for key in ("flip", "vertical_flip", "rotate", "scale", "elastic", "brightness", "contrast", "saturation", "hue"):
        assert f"`{key}`" in PAGE or f".{key}`" in PAGE


def test_dirty_masks_are_told_as_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(mask: Classes, number: int) -> Image.Image:
        image = Image.fromarray(255 * mask)
        large = image.resize((60, 48), Image.Resampling.BILINEAR)
        return large.resize(image.size, Image.Resampling.BILINEAR) if number in (3, 7) else image

    monkeypatch.chdir(tmp_path)
    save_pairs(Path("cells"), draw, count=24)
    found = SHOWN.search(PAGE)
    assert found is not None
    command, _, answer = found[1].partition("\n")
    assert main(shlex.split(command.strip().removeprefix("$ "))[1:]) == 2
    said = " ".join(capsys.readouterr().err.split())
    for part in re.split(r"\n(?=      type)", answer.rstrip()):
        assert " ".join(part.split()) in said
