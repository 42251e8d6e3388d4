"""A run killed at any moment and resumed ends with the weights of the run that was never killed."""

import random
from pathlib import Path

import pytest

from tests.faults.compare import run_differences, the_run
from tests.faults.killing import Bomb, dltrain

SHORT = [
    "trainer.epochs=4",
    "trainer.batch_size=100",
    "data.train_per_class=70",
    "trainer.threads=1",
    "device=cpu",
    "data.augment.rotate=10",
    "log=quiet",
]  # 7 steps an epoch

MLP = ["model=mlp", "model.widths=[32]"]
SETTINGS = {
    "mlp-dropout-streaming": [
        *[*MLP, "model.dropout=0.3", "optim=adamw", "schedule=step", "schedule.milestones=[1,3]"],
        *["data.loader=streaming", "data.workers=0"],
    ],
    "mlp-workers": ["model=mlp", "model.widths=[16]", "data.loader=streaming", "data.workers=2"],
    "lenet5-ema-onecycle": [
        *["model=lenet5", "model.dropout=0.2", "trainer.ema=0.9", "schedule=onecycle", "optim=sgd"],
        *["data.loader=resident"],
    ],
    "mlp-norm-ema-accumulation": [
        *[*MLP, "model.norm=batch", "trainer.ema=0.9", "trainer.micro_batch_size=40"],
        *["optim=adam", "schedule=cosine", "schedule.warmup=1"],
    ],
    "mlp-fp16": [
        *[*MLP, "model.dropout=0.1", "trainer.ema=0.9", "optim=sgd"],
        *["precision=fp16", "precision.init_scale=1e13", "precision.growth_interval=3"],
    ],
}

STEP = "dltrain.engine.loop:train_step"

# the step killed in (from 1), after or before it; a save every 5 steps lets the resumed run start inside an epoch
KILLS = {
    "mlp-dropout-streaming": [Bomb(STEP, 1), Bomb(STEP, 7, after=True), Bomb(STEP, 12), Bomb(STEP, 27)],
    "mlp-workers": [Bomb(STEP, 4), Bomb(STEP, 8)],
    "lenet5-ema-onecycle": [Bomb(STEP, 6), Bomb(STEP, 14), Bomb(STEP, 21, after=True)],
    "mlp-norm-ema-accumulation": [Bomb("dltrain.engine.step:set_position", 20), Bomb(STEP, 7), Bomb(STEP, 16)],
    "mlp-fp16": [Bomb(STEP, 8), Bomb(STEP, 23)],
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """R0 of each setting, made when first asked for."""
    return {}


def r0(name: str, unbroken: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if name not in unbroken:
        folder = tmp_path_factory.mktemp(name)
        assert dltrain([*SHORT, *SETTINGS[name]], folder) == 0, (folder / "screen.txt").read_text()
        unbroken[name] = the_run(folder)
    return unbroken[name]


def killed_and_resumed(
    folder: Path, argv: list[str], *bombs: Bomb, setup: str | None = None, save_every: int = 5
) -> Path:
    """Kill at each bomb in turn, counting calls from each start, resume, then let the run end."""
    argv = [*argv, f"trainer.save_every={save_every}"]
    for bomb in bombs:
        assert dltrain(argv, folder, bomb, setup=setup) == -9, (folder / "screen.txt").read_text()
        argv = ["resume=last"]
    assert dltrain(argv, folder, setup=setup) == 0, (folder / "screen.txt").read_text()
    return the_run(folder)


@pytest.mark.parametrize(
    ("name", "bomb"), [pytest.param(n, b, id=f"{n}-{i}") for n, bombs in KILLS.items() for i, b in enumerate(bombs)]
)
def test_killed_run_resumes_bit_exact(
    name: str, bomb: Bomb, unbroken: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    resumed = killed_and_resumed(tmp_path, [*SHORT, *SETTINGS[name]], bomb)
    assert run_differences(r0(name, unbroken, tmp_path_factory), resumed) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_killed_at_five_random_steps_resumes_bit_exact(
    name: str, unbroken: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each start does at most 5 of the 28 steps, some of them again."""
    draw = random.Random(name)
    bombs = [Bomb(STEP, draw.randint(1, 5), after=draw.random() < 0.5) for _ in range(5)]
    resumed = killed_and_resumed(tmp_path, [*SHORT, *SETTINGS[name]], *bombs, save_every=2)
    assert run_differences(r0(name, unbroken, tmp_path_factory), resumed) == []


PLACES = {
    "in the evaluation": Bomb("dltrain.engine.loop:evaluate", 2),
    "between evaluation and checkpoint": Bomb("dltrain.engine.loop:evaluate", 2, after=True),
    "between temporary file and rename": Bomb("os:replace", 2, holding="last.pt"),
    "between last and best": Bomb("os:replace", 2, after=True, holding="last.pt"),
    "between checkpoint and metrics": Bomb("dltrain.checkpoint:save", 3, after=True),
    "before the final test": Bomb("dltrain.modes.train:final_evaluation"),
    "after the final test": Bomb("dltrain.modes.train:final_evaluation", after=True),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_between_writes_loses_nothing(
    place: str, unbroken: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = "mlp-dropout-streaming"
    resumed = killed_and_resumed(tmp_path, [*SHORT, *SETTINGS[name]], PLACES[place])
    assert run_differences(r0(name, unbroken, tmp_path_factory), resumed) == []
    rows = (resumed / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4"]


def test_killed_three_times_between_two_updates(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two updates on two modules, one every second step with a count: the loop knows neither."""
    argv = [*SHORT, "model=mlp", "optim=adam", "trainer.micro_batch_size=40", "trainer.ema=0.9", "seed=3"]
    setup = "tests.faults.pair:use_pair"
    whole = tmp_path_factory.mktemp("pair")
    assert dltrain(argv, whole, setup=setup) == 0, (whole / "screen.txt").read_text()
    between = Bomb("dltrain.engine.loop:apply_update", 11)  # step 7's second update is call 12
    resumed = killed_and_resumed(
        tmp_path, argv, between, Bomb("dltrain.engine.loop:apply_update", 9, after=True), Bomb(STEP, 3), setup=setup
    )
    assert run_differences(the_run(whole), resumed) == []


@pytest.mark.parametrize("change", ["seed", "optimizer", "ema", "step"])
def test_comparison_sees_a_lost_item(
    change: str, unbroken: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The negative control: another seed, or one item dropped on resume, must be seen."""
    name = "lenet5-ema-onecycle"
    argv = [*SHORT, *SETTINGS[name]]
    if change == "seed":
        assert dltrain([*argv, "seed=1"], tmp_path) == 0
    else:
        assert dltrain([*argv, "trainer.save_every=5"], tmp_path, Bomb(STEP, 12)) == -9
        assert dltrain(["resume=last"], tmp_path, setup=f"tests.faults.losing:lose_{change}") == 0
    assert run_differences(r0(name, unbroken, tmp_path_factory), the_run(tmp_path))
