"""A run goes on with the data that it has learned from, or not at all."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.modes import reproduce
from dltrain.run import Run

WORDS = ["model=mlp", "model.widths=[4]", "data=folder", "data.root=my photos", "data.size=8", "schedule=constant"]
WORDS += ["trainer.threads=1", "trainer.batch_size=4", "trainer.epochs=1", "log=quiet"]
LONGER = ["resume=run", "trainer.epochs=2"]
BROKEN, OTHER = "cat/3.png", "dog/5.png"  # one that cannot be read from the beginning, and one that can


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`run`, of one epoch, on two classes of ten images, of which one cannot be read."""
    place = tmp_path_factory.mktemp("made")
    for index, name in enumerate(("cat", "dog")):
        (place / "my photos" / name).mkdir(parents=True)
        for number in range(10):
            picture(10 * index + number).save(place / "my photos" / name / f"{number}.png")
    (place / "my photos" / BROKEN).write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*WORDS, "output=run"]) == 0
    return place


@pytest.fixture
def photos(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("my photos")


def repair(photos):
    picture(3).save(photos / BROKEN)


def damage(photos):
    (photos / OTHER).write_bytes(b"none either")


def swap(photos):
    """As many images as there were, and others."""
    repair(photos)
    (photos / "cat/4.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (repair, f"then: 1 image that cannot be read is left out: {BROKEN}"),
        (damage, f"now: 2 images that cannot be read are left out: {BROKEN}, {OTHER}"),
        (swap, f"then: 1 image that cannot be read is left out: {BROKEN}"),
        (lambda photos: (photos / OTHER).rename(photos / "dog/x.png"), "other files, or other targets, in "),
        (lambda photos: picture(99).save(photos / "dog/99.png"), "counts "),
    ],
)
def test_other_files_are_a_mistake_before_anything_is_trained(photos, change, says, capsys):
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    change(photos)
    assert main(LONGER) == 2
    told = capsys.readouterr().err
    assert "the data are not those that resume=run has learned from" in told
    assert says in told
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    advice = shlex.split(told.partition("  type     dltrain ")[2].splitlines()[0])
    assert main([*advice, "trainer.dry_run=true", "trainer.threads=1"]) == 0


def test_other_pixels_are_a_failure_and_the_run_goes_on_with_its_own(photos, capsys):
    names = sorted(photos.rglob("*.png"))
    own = {path: path.read_bytes() for path in names}
    for path in names:
        if path != photos / BROKEN:
            image = Image.open(path)
            image.putpixel((0, 0), (*image.getpixel((0, 0))[:2], 7))
            image.save(path)
    recorded = json.loads(Path("run/environment.json").read_text())
    mean = [f"data.{name}={recorded['data_spec'][name]}".replace(" ", "") for name in ("mean", "std")]
    assert main([*WORDS, *mean, "output=fixed"]) == 0  # with these typed, no mean gives the change away
    for path, content in own.items():
        path.write_bytes(content)
    assert main(["resume=fixed", "trainer.epochs=2"]) == 1
    told = capsys.readouterr().err
    assert "are not those that fixed has learned from: the same files hold other pixels" in told
    assert "go on" not in told
    assert main(LONGER) == 0
    assert Run(Path("run")).status == "completed"


def test_same_files_in_another_place_go_on(photos):
    """The control: what is compared is not where they lie."""
    photos.rename("elsewhere")
    assert main([*LONGER, "data.root=elsewhere"]) == 0


def test_reproduce_tells_which_file_is_another(photos):
    swap(photos)
    assert main([*WORDS, "output=again"]) == 0
    found = reproduce.what_differs(Run(Path("run")), Run(Path("again")))
    said = [(old, new) for name, old, new in found if name == "data"]
    assert said == [tuple(f"1 image that cannot be read is left out: cat/{number}.png" for number in (3, 4))]
    assert any(name.startswith("files: sha256 of ") for name, _, _ in found)
    assert not any("notes" in name or "listing" in name for name, _, _ in found)


def test_command_for_a_new_run_from_a_completed_one_can_be_pasted(photos, capsys):
    assert main(["resume=run"]) == 2
    advice = shlex.split(capsys.readouterr().err.partition("  type     dltrain ")[2].splitlines()[0])
    assert main([*advice, "trainer.dry_run=true", "trainer.threads=1"]) == 0
