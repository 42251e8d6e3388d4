"""What opens a finished run: mode=eval and dltrain.load."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dltrain
from dltrain import data
from dltrain.cli import main
from dltrain.config import table
from dltrain.config.messages import Mistake
from dltrain.engine.ema import Ema
from dltrain.run import all_runs
from tests.runs.states import edit, tree_of

# ---- mode=eval


def test_eval_gives_the_runs_own_metrics_to_the_bit_and_touches_nothing(here, capsys):
    before = tree_of(Path("outputs"))
    assert main(["mode=eval", "run=last", "output=found"]) == 0
    assert tree_of(Path("outputs")) == before
    found = json.loads(Path("found/results.json").read_text())
    own = here.results()
    assert list(found) == list(own)
    assert found["metrics"] == own["metrics"]
    assert {name.partition("/")[0] for name in found["metrics"]} == {"val", "test"}
    assert found["weights_sha256"] == own["weights_sha256"]  # 40 steps: the best is the last
    shown = capsys.readouterr().out
    assert "test (1,000 images)" in shown
    assert f"{own['metrics']['test/accuracy'] * 100:.1f} % ±" in shown


def test_eval_with_other_settings_is_another_number(here):
    """The control: the comparison above can fail."""
    assert main(["mode=eval", "run=last", "output=found", "precision=fp32"]) == 0
    found = json.loads(Path("found/results.json").read_text())["metrics"]
    assert found["test/loss"] != here.results()["metrics"]["test/loss"]


def test_eval_of_a_run_in_another_folder_of_any_name(here, tmp_path):
    odd = tmp_path / "прогон #1 (a=b)"
    shutil.move(here.path, odd)
    assert main(["mode=eval", f"run={odd}", "checkpoint=last"]) == 0


@pytest.mark.parametrize("words", [["mode=eval", "run=last"], ["mode=reproduce", "run=last"]])
def test_log_is_chosen_beside_a_run(small, words):
    """It changes nothing that comes out."""
    assert main([*words, "log=quiet"]) == 0


def test_refused_word_is_told_as_typed_and_the_others_stay(small, capsys):
    shutil.copytree("photos", "my photos (1)")
    assert main(["mode=predict", "run=last", "seed=3", "input=my photos (1)", "log=quiet"]) == 2
    told = capsys.readouterr().err
    assert "seed=3 has no say in mode=predict" in told
    advice = shlex.split(told.partition("  type     dltrain ")[2].splitlines()[0])
    assert advice[2:] == ["input=my photos (1)", "log=quiet"]
    assert main(advice) == 0


def test_eval_refuses_to_write_over_a_run(here, capsys):
    before = (here.path / "results.json").read_text()
    assert main(["mode=eval", "run=last", f"output={here.path}"]) == 2
    assert (here.path / "results.json").read_text() == before


def test_eval_without_checkpoint_and_with_other_classes_is_a_mistake(here, capsys):
    edit(here.path / "environment.json", lambda tree: tree["data_spec"]["class_names"].reverse())
    assert main(["mode=eval", f"run={here.path}"]) == 2
    assert "class_names" in capsys.readouterr().err
    shutil.rmtree(here.path / "checkpoints")
    assert main(["mode=eval", f"run={here.path}"]) == 2


def test_eval_answers_in_the_units_that_the_run_has_learned(tmp_path, monkeypatch, capsys):
    """Other training values below another root move neither the network's answers nor the figures of the test."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.RandomState(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = draw.randint(0, 256, (12, 8, 8)).astype(np.uint8)
        arrays[f"{split}_values"] = arrays[f"{split}_images"].mean((1, 2))
    np.savez("then.npz", **arrays)
    np.savez("now.npz", **(arrays | {"train_values": 10 * arrays["train_values"] + 5}))
    np.savez("other.npz", **arrays, value_names=np.array(["light"]))
    words = ["data=array", "data.targets=values", "model=mlp", "model.widths=[8]", "trainer.threads=1", "log=quiet"]
    assert main([*words, "data.root=then.npz", "trainer.epochs=2", "trainer.batch_size=6", "output=run"]) == 0
    for name in ("then", "now"):
        assert main(["mode=eval", "run=run", f"data.root={name}.npz", f"output={name}"]) == 0
        found = json.loads(Path(name, "results.json").read_text())["metrics"]
        assert found == json.loads(Path("run/results.json").read_text())["metrics"]
    capsys.readouterr()
    assert main(["mode=eval", "run=run", "data.root=other.npz"]) == 2
    assert "value_names is ('light',)" in capsys.readouterr().err


def test_eval_says_when_it_is_not_bit_exact(here, capsys):
    edit(here.path / "environment.json", lambda tree: tree["versions"].update(torch="2.0"))
    assert main(["mode=eval", "run=last"]) == 0
    told = capsys.readouterr()
    assert "not bit-exact" in told.out + told.err
    assert "torch: 2.0 recorded" in told.out + told.err


def test_eval_of_other_images_says_so(here, capsys):
    assert main(["mode=eval", "run=last"]) == 0
    told = capsys.readouterr()
    assert "not the images" not in told.out + told.err
    edit(here.path / "environment.json", lambda tree: tree["data_sha256"].update(test="0"))
    assert main(["mode=eval", "run=last"]) == 0
    told = capsys.readouterr()
    assert "test: not the images that the run had" in told.out + told.err
    edit(here.path / "environment.json", lambda tree: tree["data_spec"]["counts"].update(val=499))
    assert main(["mode=eval", "run=last", "data.loader=streaming", "data.workers=0"]) == 0
    told = capsys.readouterr()
    assert "val: not the images that the run had" in told.out + told.err


def test_what_the_run_or_its_data_lack_is_answered_before_torch(small):
    program = """
import shutil, sys
from dltrain.cli import main
assert main(["mode=eval", "run=last", f"output={sys.argv[1]}"]) == 2
shutil.rmtree("photos")
for mode in ("eval", "reproduce"):
    assert main([f"mode={mode}", "run=last"]) == 2
shutil.rmtree(f"{sys.argv[1]}/checkpoints")
assert main(["mode=eval", f"run={sys.argv[1]}"]) == 2
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program, small.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("data.root=photos does not exist") == 2


# ---- hostile files, from the command line


class Opens:
    def __reduce__(self):
        return open, ("canary", "w")


@pytest.mark.parametrize(
    "words",
    [
        ["mode=eval", "run=last"],
        ["mode=eval", "run=last", "checkpoint=last"],
        ["resume=last"],
        ["init=run", "init.source=last"],
    ],
    ids=" ".join,
)
def test_hostile_checkpoint_is_refused_everywhere_before_anything_is_called(here, capsys, words):
    here.write_results(status="interrupted")
    for path in (here.path / "checkpoints").iterdir():
        path.unlink()
        torch.save({"format": 1, "sha256": "0" * 64, "state": Opens()}, path)
    assert main(words) == 2
    assert "is refused: it names" in capsys.readouterr().err
    assert not Path("canary").exists()
    assert all_runs() == [here.path]  # no run folder is left behind


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(threads=10**9),
        lambda tree: tree.update(device="cuda; rm -rf /"),
        lambda tree: tree.update(data_spec={"_target_": "os.system"}),
        lambda tree: tree["data_spec"].update(shape=[1, 10**9, 10**9]),
    ],
)
def test_forged_environment_is_a_mistake(here, capsys, change):
    edit(here.path / "environment.json", change)
    assert main(["mode=eval", "run=last"]) == 2
    assert "environment.json" in capsys.readouterr().err


# ---- dltrain.load


def test_load_gives_the_averaged_weights_ready_to_use(here):
    loaded = dltrain.load("last")
    state = torch.load(here.path / "checkpoints/best.pt", weights_only=True)["state"]
    averaged = Ema.weights(state["ema"])
    for name, value in loaded.task.state_dict().items():
        assert torch.equal(value, averaged[name])
        assert not torch.equal(value, state["task"][name])  # the control: they are not the raw ones
    assert not loaded.model.training
    assert next(loaded.model.parameters()).device.type == "cpu"
    assert loaded.config == here.read_config()
    assert loaded.class_names == tuple("0123456789")


def test_preprocessing_is_that_of_evaluation(here):
    """The digits themselves, as pictures of 28x28, become exactly what evaluation feeds to the network."""
    config = here.read_config()
    spec = data.describe(config, print)
    images = data.open_data(config, spec, torch.device("cpu"), "resident", 0, print)
    batch = next(iter(images.split("test")))
    from dltrain.data.embedded import read_sheet

    sheet = read_sheet()
    loaded = dltrain.load(here.path)
    for position, number in enumerate(batch.ids[:20].tolist()):
        pixels = sheet[number, 0]
        for source in (pixels, pixels[:, :, None], np.repeat(pixels[:, :, None], 3, 2), Image.fromarray(pixels)):
            assert torch.equal(loaded.preprocess(source), batch.images[position])
    Image.fromarray(sheet[int(batch.ids[0]), 0]).save("digit.png")
    assert torch.equal(loaded.preprocess("digit.png"), batch.images[0])
    prediction = loaded.task.predict(loaded.preprocess("digit.png")[None])
    assert prediction.values.shape == (1, 10)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((1, 3, 4, 4), np.uint8)])
def test_preprocessing_refuses_what_are_no_pixels(here, pixels):
    with pytest.raises(ValueError, match="uint8"):
        dltrain.load("last").preprocess(pixels)


def test_load_leaves_no_trace(here):
    torch.manual_seed(5)
    before, files = torch.get_rng_state(), tree_of(Path("outputs"))
    dltrain.load("last", checkpoint="last")
    assert torch.equal(torch.get_rng_state(), before)
    assert tree_of(Path("outputs")) == files


def test_load_of_no_run_and_of_another_network_is_a_mistake(here):
    with pytest.raises(Mistake, match="is not there"):
        dltrain.load("nothing")
    edit(here.path / "config.json", lambda tree: tree["model"].update(norm="batch"))
    with pytest.raises(Mistake, match="another network"):
        dltrain.load("last")


def test_finding_runs_imports_no_torch():
    code = "import sys, dltrain, dltrain.run, dltrain.lock, dltrain.atomic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError):
        dltrain.nothing  # noqa: B018


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A user's package `own_nets` with one network, in the working directory."""
    home = tmp_path / "own_nets"
    for folder in ("configs/model", "models"):
        (home / folder).mkdir(parents=True)
    for name in ("__init__.py", "models/__init__.py"):
        (home / name).write_text("")
    (home / "config.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom dltrain.config.model import Model\n"
        "@dataclass\nclass Flat(Model):\n    builds: ClassVar[str] = 'flat:Flat'\n    name: str = 'flat'\n"
    )
    (home / "configs/model/flat.yaml").write_text("defaults:\n  - _flat\n  - _self_\n")
    (home / "models/flat.py").write_text(
        "from math import prod\nfrom torch import nn\n"
        "class Flat(nn.Sequential):\n    def __init__(self, cfg, shape, n):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(prod(shape), n))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_nets"
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_nets"]:
        del sys.modules[name]
    table.forget_extras()


def test_run_of_a_network_of_ones_own_needs_trust(own_package, monkeypatch):
    assert main([f"trust=[{own_package}]", "model=flat", "trainer.steps=2", "trainer.threads=1"]) == 0
    table.forget_extras()
    with pytest.raises(Mistake, match="not known here"):
        dltrain.load("last")
    assert type(dltrain.load("last", trust=[own_package]).model).__name__ == "Flat"
    table.forget_extras()
    monkeypatch.setenv("DLTRAIN_TRUST", own_package)
    assert type(dltrain.load("last").model).__name__ == "Flat"
