"""What a run of two networks tells: health in TensorBoard, its lines, its frames and its pictures."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from tests.faults.told import out_of_order, told

SMALL = ["model=dcgan", "model.base_channels=4", "trainer.batch_size=500", "trainer.epochs=3", "trainer.threads=1"]
SMALL += ["device=cpu", "task.judge=none", "task.samples=100", "log.every=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adversarial") / "run"
    assert main([*SMALL, "task.r1=1", "task.r1_every=4", "model.discriminator_norm=none", f"output={path}"]) == 0
    return path


def test_the_health_of_both_networks_is_in_tensorboard(run: Path) -> None:
    found = told(run)
    assert out_of_order(found) == []
    both = [f"{what}/{name}" for name in ("discriminator", "generator") for what in ("loss", "grad_norm")]
    for name in [*both, "discriminator/real_score", "discriminator/fake_score", "discriminator/accuracy"]:
        what, _, rest = name.partition("/")
        tags = {
            "loss": f"loss/{rest}/loss",
            "grad_norm": f"optim/{rest}/grad_norm",
        }
        values = found[f"train {tags.get(what, f'metric/{name}')}"]
        assert [step for step, _ in values] == list(range(1, 22))
        assert np.isfinite([value for _, value in values]).all()
    assert [step for step, _ in found["train loss/r1/loss"]] == [1, 5, 9, 13, 17, 21]
    for name in ("checkerboard", "real_checkerboard", "nearest_distance", "real_score", "fake_score"):
        assert [step for step, _ in found[f"val metric/{name}"]] == [7, 14, 21]
    assert [step for step, _ in found["val samples"]] == [7, 14, 21], "the grid at every evaluation"


def test_the_frames_are_the_grids_of_the_same_latents_and_one_animated_picture(run: Path) -> None:
    pictures = run / "pictures"
    frames = [np.asarray(Image.open(pictures / "samples" / f"{step}.png")) for step in (7, 14, 21)]
    assert {frame.shape for frame in frames} == {(8 * 58 + 2, 8 * 58 + 2)}
    assert np.array_equal(np.asarray(Image.open(pictures / "samples.png")), frames[-1])
    with Image.open(pictures / "samples.gif") as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
        assert image.info["loop"] == 0
    for name in ("run", "batch", "nearest", "checkerboard"):
        assert min(Image.open(pictures / f"{name}.png").size) > 200, name


def test_its_lines_name_both_networks_and_its_end_the_pictures(run: Path) -> None:
    log = (run / "run.log").read_text(encoding="utf-8")
    lines = [line[21:] for line in log.splitlines()]
    (last,) = [line for line in lines if line.startswith("epoch 3/3  ")]
    for name in ("discriminator", "generator", "r1"):
        assert re.search(rf"  {name} loss \S+  ", last)
    (pictures,) = [line for line in lines if line.startswith("pictures")]
    assert "pictures/run.png, " in pictures
    assert "samples.gif, samples.png" in pictures
    (checkerboard,) = [line for line in lines if line.startswith("test checkerboard")]
    assert "   real images " in checkerboard
