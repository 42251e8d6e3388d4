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
from dltrain.run import Run
from tests.runs.states import edit, tree_of
from tests.runs.test_checkpoint_attacks import CANARY, attacks

MODES = {"predict": ["mode=predict", "run=run", "input=digit.png"], "export": ["mode=export", "run=run"]}
every_mode = pytest.mark.parametrize("words", MODES.values(), ids=list(MODES))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["model=mlp", "model.widths=[8]", "trainer.steps=2", "trainer.threads=1", "log=quiet", "output=run"]
        assert main(words) == 0
        Image.fromarray(np.zeros((28, 28), np.uint8)).save("digit.png")
    return place


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Run(Path("run"))


def refused(words: list[str], codes: tuple[int, ...] = (2,)) -> None:
    before = tree_of(Path())
    assert main(words) in codes
    assert tree_of(Path()) == before


def test_predict_touches_nothing_but_its_output(run: Run) -> None:
    """The control: the run can be used; and all that appears is in one new folder."""
    before = tree_of(Path())
    assert main([*MODES["predict"], "output=said"]) == 0
    after = tree_of(Path())
    new = {path for path in after if path not in before}
    assert new == {"said", *(f"said/predictions.{kind}" for kind in ("csv", "json", "png"))}
    assert {path: after[path] for path in before} == before


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["whole", "in_tensor_dict", "plain_pickle"])
@every_mode
def test_a_hostile_checkpoint_runs_nothing(name: str, words: list[str], run: Run, tmp_path: Path) -> None:
    canary = tmp_path / CANARY
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "checkpoints").mkdir()
    for which in ("last", "best"):
        attacks(run.path / f"checkpoints/{which}.pt", canary)[name]()
    refused(words)
    assert not canary.exists()


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a target": lambda tree: tree["model"].update(_target_="os.system"),
    "hydra's node": lambda tree: tree.update(hydra={"run": {"dir": "elsewhere"}}),
    "trust": lambda tree: tree.update(trust=["os"]),
    "output": lambda tree: tree.update(output="/elsewhere"),
    "another module": lambda tree: tree["model"].update(name="os:system"),
    "an interpolation": lambda tree: tree["data"].update(size="${oc.env:HOME}"),
    "widths of gigabytes": lambda tree: tree["model"].update(widths=[10**6, 10**6]),
}


@pytest.mark.parametrize("change", CONFIGS.values(), ids=list(CONFIGS))
@every_mode
def test_an_edited_config_is_refused(change: Callable[[dict[str, Any]], object], words: list[str], run: Run) -> None:
    edit(run.path / "config.json", change)
    refused(words)


SPECS: dict[str, dict[str, Any]] = {
    "giant images": {"shape": [1, 60000, 60000]},
    "more channels": {"shape": [3, 28, 28]},
    "other classes": {"class_names": ["a"] * 100_000},
    "no classes": {"class_names": []},
    "no deviation": {"std": [0.0]},
    "a foreign key": {"__class__": "os"},
}


@pytest.mark.parametrize("change", SPECS.values(), ids=list(SPECS))
@every_mode
def test_edited_facts_of_the_data_are_refused(change: dict[str, Any], words: list[str], run: Run) -> None:
    edit(run.path / "environment.json", lambda tree: tree["data_spec"].update(change))
    refused(words)


def test_names_from_a_run_come_out_safe(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Classes that are named to change a terminal, a table or a path."""
    names = ["\x1b[31mred", "=cmd()", "../../up", "new\nline", "[bold]", "\u202ebidi", "\ud800", "a" * 300, "-1+1", ""]
    edit(run.path / "environment.json", lambda tree: tree["data_spec"].update(class_names=names))
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
