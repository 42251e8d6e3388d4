"""Runs made to harm, opened by the modes that are used on what others send: nothing is run, nothing is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from tests.runs.states import edit, tree_of
from tests.runs.test_checkpoint_attacks import CANARY, attacks

SHORT = ["trainer.steps=2", "trainer.threads=1", "log=quiet", "output=run"]
NETWORKS = {
    "classifier": ["model=mlp", "model.widths=[8]"],
    "generator": ["model=dcgan", "model.base_channels=2", "task.judge=none", "task.samples=8"],
}
MODES = {
    "predict": ("classifier", ["mode=predict", "run=run", "input=digit.png"]),
    "export": ("classifier", ["mode=export", "run=run"]),
    "generate": ("generator", ["mode=generate", "run=run", "n=2"]),
    "export a generator": ("generator", ["mode=export", "run=run"]),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a network, with a run of it."""
    place = tmp_path_factory.mktemp("finished")
    for name, words in NETWORKS.items():
        (place / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place / name)
            few = ["data.train_per_class=4"] if name == "generator" else []
            assert main([*words, *few, *SHORT]) == 0
            Image.fromarray(np.zeros((28, 28), np.uint8)).save("digit.png")
    return place


@pytest.fixture
def words(request: pytest.FixtureRequest, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A mode's words, in a copy of the folder with the run that it opens."""
    network, found = MODES[request.param]
    shutil.copytree(finished / network, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return found


every_mode = pytest.mark.parametrize("words", MODES, indirect=True)
of_predict = pytest.mark.parametrize("words", ["predict"], indirect=True)


def refused(words: list[str], codes: tuple[int, ...] = (2,)) -> None:
    before = tree_of(Path())
    assert main(words) in codes
    assert tree_of(Path()) == before


NEW = {
    "predict": {f"predictions.{kind}" for kind in ("csv", "json", "png")},
    "generate": {"grid.png", "latents.npz", "generate.json", "images", "images/000000.png", "images/000001.png"},
}


@pytest.mark.parametrize(("words", "new"), NEW.items(), indirect=["words"], ids=list(NEW))
def test_a_mode_touches_nothing_but_its_output(words: list[str], new: set[str]) -> None:
    """The control: the run can be used; and all that appears is in one new folder."""
    before = tree_of(Path())
    assert main([*words, "output=said"]) == 0
    after = tree_of(Path())
    assert {path for path in after if path not in before} == {"said", *(f"said/{name}" for name in new)}
    assert {path: after[path] for path in before} == before


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["whole", "in_tensor_dict", "plain_pickle"])
@every_mode
def test_a_hostile_checkpoint_runs_nothing(name: str, words: list[str], tmp_path: Path) -> None:
    canary = tmp_path / CANARY
    shutil.rmtree("run/checkpoints")
    Path("run/checkpoints").mkdir()
    for which in ("last", "best"):
        attacks(Path(f"run/checkpoints/{which}.pt"), canary)[name]()
    refused(words)
    assert not canary.exists()


def _large(tree: dict[str, Any]) -> None:
    """Gigabytes of weights."""
    large = {"widths": [10**6, 10**6]} if tree["model"]["name"] == "mlp" else {"base_channels": 512}
    tree["model"].update(large)


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a target": lambda tree: tree["model"].update(_target_="os.system"),
    "hydra's node": lambda tree: tree.update(hydra={"run": {"dir": "elsewhere"}}),
    "trust": lambda tree: tree.update(trust=["os"]),
    "output": lambda tree: tree.update(output="/elsewhere"),
    "another module": lambda tree: tree["model"].update(name="os:system"),
    "an interpolation": lambda tree: tree["data"].update(size="${oc.env:HOME}"),
    "a large network": _large,
}


@pytest.mark.parametrize("change", CONFIGS.values(), ids=list(CONFIGS))
@every_mode
def test_an_edited_config_is_refused(change: Callable[[dict[str, Any]], object], words: list[str]) -> None:
    edit(Path("run/config.json"), change)
    refused(words)


SPECS: dict[str, dict[str, Any]] = {
    "giant images": {"shape": [1, 60000, 60000]},
    "more channels": {"shape": [3, 28, 28]},
    "no deviation": {"std": [0.0]},
    "a foreign key": {"__class__": "os"},
}
CLASSES: dict[str, dict[str, Any]] = {
    "other classes": {"class_names": ["a"] * 100_000},
    "no classes": {"class_names": []},
}
OF_IMAGES = [pytest.param(mode, SPECS[name], id=f"{mode}: {name}") for mode in MODES for name in SPECS]
OF_CLASSES = [
    pytest.param(mode, change, id=f"{mode}: {name}")
    for mode, (network, _) in MODES.items()
    for name, change in CLASSES.items()
    if network == "classifier"  # a generator makes images of no class
]


@pytest.mark.parametrize(("words", "change"), [*OF_IMAGES, *OF_CLASSES], indirect=["words"])
def test_edited_facts_of_the_data_are_refused(change: dict[str, Any], words: list[str]) -> None:
    edit(Path("run/environment.json"), lambda tree: tree["data_spec"].update(change))
    refused(words)


@of_predict
def test_names_from_a_run_come_out_safe(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Classes that are named to change a terminal, a table or a path."""
    names = ["\x1b[31mred", "=cmd()", "../../up", "new\nline", "[bold]", "\u202ebidi", "\ud800", "a" * 300, "-1+1", ""]
    edit(Path("run/environment.json"), lambda tree: tree["data_spec"].update(class_names=names))
    for i, pixels in enumerate(np.random.RandomState(0).randint(0, 256, (40, 28, 28)).astype(np.uint8)):
        Path("noise").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(f"noise/{i}.png")
    assert main(["mode=predict", "run=run", "input=noise", "output=said"]) == 0
    text = Path("said/predictions.csv").read_text(encoding="utf-8")
    document = Path("said/predictions.json").read_text(encoding="utf-8")
    for shown in (capsys.readouterr().out, text, document):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert json.loads(document)["class_names"] == names
    assert len(text.splitlines()) == 41
    assert not any(line.split(",")[1].startswith(("=", "-")) for line in text.splitlines())
    assert not Path("../../up").exists()
