"""Networks that learn masks, killed at any moment and resumed, end with the bits of the run that was never killed."""

from pathlib import Path

import pytest

from tests.data.masks import save_pairs
from tests.faults.compare import run_differences, the_run
from tests.faults.killing import Bomb, dltrain

SHORT = ["data=mask_folder", "data.root=set", "data.crop=24", "data.augment.rotate=20", "data.augment.flip=0.5"]
SHORT += ["model=unet", "model.depth=2", "model.base_channels=2", "optim.lr=0.01", "trainer.epochs=3"]
SHORT += ["trainer.batch_size=4", "trainer.threads=1", "device=cpu", "log=quiet"]  # 3 steps an epoch

BORDERS = ["task.weight_map=true", "task.loss=both", "trainer.ema=0.9"]
SETTINGS = {
    "borders-ema-resident": [*BORDERS, "data.loader=resident", "data.augment.elastic=3"],
    "borders-ema-streaming": [*BORDERS, "data.loader=streaming", "data.workers=2", "trainer.micro_batch_size=3"],
    "plain-streaming": ["data.loader=streaming", "data.workers=0", "task.balanced=true"],
    "plain-ema-resident": ["task.loss=dice", "trainer.ema=0.9", "data.loader=resident", "schedule=cosine"],
}
STEP = "dltrain.engine.loop:train_step"
BOMBS = {
    "in an epoch": Bomb(STEP, 5),
    "after an epoch's last step": Bomb(STEP, 6, after=True),
    "between two images of an evaluation": Bomb("dltrain.tasks.overlap:PixelTally.add", 2),
    "while borders are weighed": Bomb("dltrain.data.borders:border_term", 3),
}
ALWAYS = [("borders-ema-resident", "in an epoch"), ("plain-streaming", "between two images of an evaluation")]
CASES = [
    pytest.param(name, place, id=f"{name}, {place}", marks=() if (name, place) in ALWAYS else pytest.mark.slow)
    for name in SETTINGS
    for place in BOMBS
    if place != "while borders are weighed" or name.startswith("borders")
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run of each setting that nothing stops, made when it is first asked for."""
    return {}


@pytest.mark.parametrize(("name", "place"), CASES)
def test_a_killed_run_resumes_bit_exact(
    name: str, place: str, unbroken: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = [*SHORT, *SETTINGS[name]]
    if name not in unbroken:
        folder = tmp_path_factory.mktemp("whole")
        save_pairs(folder / "set", count=18, classes=3)
        assert dltrain(words, folder) == 0, (folder / "screen.txt").read_text()
        unbroken[name] = the_run(folder)
    save_pairs(tmp_path / "set", count=18, classes=3)
    cache = f"{__name__}:a_cache_of_its_own"  # where no border has been weighed before
    in_a_worker = place == "while borders are weighed" and "data.workers=2" in words
    code = dltrain([*words, "trainer.save_every=2"], tmp_path, BOMBS[place], setup=cache)
    assert code == (1 if in_a_worker else -9), (tmp_path / "screen.txt").read_text()
    assert dltrain(["resume=last"], tmp_path, setup=cache) == 0, (tmp_path / "screen.txt").read_text()
    assert run_differences(unbroken[name], the_run(tmp_path)) == []


def a_cache_of_its_own() -> None:
    import os

    os.environ["XDG_CACHE_HOME"] = str(Path.cwd() / "cache")
