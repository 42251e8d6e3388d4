"""mode=generate, and what else a generator's run can do: the same bits whatever n, nothing half-made, refusals."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import dltrain
from dltrain import checkpoint
from dltrain.cli import main
from dltrain.config import model as settings
from dltrain.config.check import check
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.precheck import precheck
from dltrain.engine import random
from dltrain.engine.ema import Ema
from dltrain.models.dcgan import DCGAN
from dltrain.modes import export_generator, generate
from dltrain.run import Run, all_runs
from tests.runs.states import edit, tree_of

Capture = pytest.CaptureFixture[str]
DOCS = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
Pixels = NDArray[np.uint8]
FEW = ["data.train_per_class=20", "trainer.batch_size=40", "trainer.threads=1", "device=cpu", "log=quiet"]
GAN = ["model=dcgan", "model.base_channels=2", "model.latent_dim=6", "task.samples=20", "seed=3", *FEW]
UNJUDGED = [*GAN, "task.judge=none", "trainer.epochs=6", "trainer.ema=0.5", "optim.lr=0.03"]
MADE = {"grid.png", "latents.npz", "generate.json", "images"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a generator's run and a classifier's."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*UNJUDGED, "output=gan"]) == 0
        assert main(["model=mlp", "model.widths=[12]", *FEW, "trainer.epochs=4", "output=classifier"]) == 0
    return place


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images_of(folder: str | Path) -> Pixels:
    """(n, H, W) or (n, H, W, 3), in the order of their names."""
    paths = sorted(Path(folder, "images").iterdir())
    return np.stack([np.array(Image.open(path)) for path in paths])


def about(folder: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "generate.json").read_text())
    return found


def offered(said: str) -> list[str]:
    """The words of the command that a message offers."""
    lines = [line.removeprefix("  type     ") for line in said.splitlines() if line.startswith("  type     ")]
    words = shlex.split(lines[0])
    assert words[0] == "dltrain"
    return words[1:]


# ---- the images


def test_an_image_has_the_same_bits_whatever_n_is(here: Path) -> None:
    """Across the borders of what is made at once; another seed gives others, and no two are alike."""
    assert main(["mode=generate", "run=gan", "n=131", "output=many"]) == 0
    many = images_of("many")
    assert many.shape == (131, 28, 28)
    with np.load("many/latents.npz") as file:
        latents = file["latents"]
    for n in (1, 64, 65):
        assert main(["mode=generate", "run=gan", f"n={n}", f"output=few{n}"]) == 0
        assert np.array_equal(images_of(f"few{n}"), many[:n])
        with np.load(f"few{n}/latents.npz") as file:
            assert np.array_equal(file["latents"], latents[:n])
    assert main(["mode=generate", "run=gan", "n=5", "seed=4", "output=other"]) == 0
    assert not (images_of("other") == many[:5]).all(axis=(1, 2)).any()
    assert len(np.unique(many.reshape(131, -1), axis=0)) == 131


def test_what_is_held_in_memory_at_once_changes_no_bit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["mode=generate", "run=gan", "n=70", "output=whole"]) == 0
    monkeypatch.setattr(generate, "PORTION", 23)
    monkeypatch.setattr(generate, "ON_GRID", 9)
    assert main(["mode=generate", "run=gan", "n=70", "output=parts"]) == 0
    assert np.array_equal(images_of("parts"), images_of("whole"))
    for name in ("whole", "parts"):
        with np.load(f"{name}/latents.npz") as file:
            assert file["latents"].shape == (70, 6)
            assert file["latents"].dtype == np.float32


def test_images_are_what_the_averaged_generator_makes_of_the_latents(here: Path) -> None:
    """From the checkpoint's own numbers, in float64: tanh's -1 to 1 to 0 to 255, within the rounding of float32."""
    assert main(["mode=generate", "run=gan", "n=12", "output=made"]) == 0
    state = checkpoint.load(Path("gan"), "best", print)
    assert state is not None
    network = DCGAN(settings.DCGAN(base_channels=2, latent_dim=6), (1, 28, 28), 10)
    averaged = {name: value for name, value in Ema.weights(state["ema"]).items() if name.startswith("model.")}
    network.load_state_dict({name.removeprefix("model."): value for name, value in averaged.items()})
    network.double().eval()
    with np.load("made/latents.npz") as file:
        latents = torch.from_numpy(file["latents"])
    assert torch.equal(latents, random.normal(random.key(3, "generate"), torch.arange(12), 6))
    exact = (network.generator(latents.double()) + 1) * 127.5
    made = torch.from_numpy(images_of("made"))[:, None].double()
    assert (made - exact.detach()).abs().max() < 0.5 + 1e-3
    assert made.std() > 1  # they are not all of one grey


def test_the_files_say_what_they_are(here: Path, capsys: Capture) -> None:
    assert main(["mode=generate", "run=gan", "n=7", "seed=9", "checkpoint=last", "output=made"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "written      made"
    assert "7 images of 28x28, grey, by seed 9" in said
    assert {path.name for path in Path("made").iterdir()} == MADE
    assert sorted(path.name for path in Path("made/images").iterdir()) == [f"{i:06d}.png" for i in range(7)]
    found, run = about("made"), dltrain.load("gan", checkpoint="last")
    assert (found["run"], found["checkpoint"], found["seed"], found["n"]) == ("gan", "last", 9, 7)
    assert found["weights_sha256"] == checkpoint.weights_sha256(run.task.state_dict())
    assert found["step"] == Run(Path("gan")).results()["steps"]
    assert found["latents"] == {"file": "latents.npz", "array": "latents", "shape": [7, 6]}
    with Image.open("made/grid.png") as page:
        assert min(page.size) >= 2 * 28


def test_by_default_64_images_of_the_runs_own_seed_below_the_run(here: Path) -> None:
    assert main(["mode=generate", "run=gan"]) == 0
    (place,) = Path("gan/generate").iterdir()
    assert len(images_of(place)) == 64
    assert about(place)["seed"] == 3


def test_a_run_of_colour_images_in_a_folder_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any sizes, one with transparency; then everything without the folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw = np.random.RandomState(0)
    for number in range(24):
        size = (30 + number, 50 - number, 4 if number == 5 else 3)
        Image.fromarray(draw.randint(0, 256, size).astype(np.uint8)).save(f"photos/{number}.png")
    words = ["data=images", "data.root=photos", "data.size=32", "model=dcgan", "model.base_channels=2"]
    short = ["task.judge=none", "task.samples=8", "trainer.epochs=1", "trainer.batch_size=6", *FEW[2:]]
    assert main([*words, *short, "output=run"]) == 0
    shutil.rmtree("photos")
    assert main(["mode=generate", "run=run", "n=3", "output=made"]) == 0
    assert images_of("made").shape == (3, 32, 32, 3)
    loaded = dltrain.load("run")
    assert np.array_equal(loaded.generate(3), images_of("made"))


# ---- from Python


def test_load_generates_the_same_images(here: Path) -> None:
    assert main(["mode=generate", "run=gan", "n=3", "seed=5", "output=made"]) == 0
    state, run = torch.get_rng_state(), dltrain.load("gan")
    images = run.generate(n=3, seed=5)
    assert np.array_equal(images, images_of("made"))
    assert Image.fromarray(images[0]).size == (28, 28)
    assert np.array_equal(run.generate(2, seed=3), run.generate(2))  # the run's own seed
    assert torch.equal(torch.get_rng_state(), state)
    for n, seed, what in (
        (0, 0, "n=0"),
        (10**9, 0, "n=1000000000"),
        (1, -1, "seed=-1"),
        (1, 2**70, "seed=11805916207"),
    ):
        with pytest.raises(Mistake, match=f"{what}.* is out of range"):
            run.generate(n, seed)
    with pytest.raises(TypeError):
        run.generate(1.5)


def test_what_a_network_cannot_do_is_told_in_python_too(here: Path) -> None:
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("digit.png")
    with pytest.raises(Mistake, match="makes images") as told:
        dltrain.load("gan").predict("digit.png")
    assert "mode=generate" in told.value.type_this
    with pytest.raises(Mistake, match="mlp says something of images, and makes none"):
        dltrain.load("classifier").generate(3)


# ---- nothing half-made


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(OSError(28, "No space left on device"), 1, "no space left on"), (KeyboardInterrupt(), 130, "stopped")],
)
def test_what_is_broken_off_leaves_nothing(
    error: BaseException, code: int, said: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    real, made = generate.to_image, []

    def fails_at_the_third(pixels: Pixels) -> Image.Image:
        made.append(pixels)
        if len(made) == 3:
            raise error
        return real(pixels)

    monkeypatch.setattr(generate, "to_image", fails_at_the_third)
    before = set(tree_of(here))
    assert main(["mode=generate", "run=gan", "n=5"]) == code
    assert said in capsys.readouterr().err
    assert set(tree_of(here)) == before


# ---- refusals


REFUSED = [
    (["mode=generate"], "mode=generate needs a run", "mode=generate run=last"),
    (
        ["mode=generate", "run=classifier"],
        "mode=generate makes images, and run=classifier is of mlp",
        "model=dcgan data=digits",
    ),
    (["mode=generate", "run=gan", "n=0"], "n cannot be 0", "mode=generate run=gan n=1"),
    (["mode=generate", "run=gan", "seed=-1"], "seed cannot be -1", "mode=generate run=gan seed=0"),
    (["mode=generate", "run=gan", "num_images=5"], "nearest  n", "mode=generate run=gan n=5"),
    (["mode=generate", "run=gan", "n=5", "model=dcgan"], "model=dcgan has no say", "mode=generate run=gan n=5"),
    (["mode=generate", "run=gan", "task.samples=5"], "task.samples=5 has no say", "mode=generate run=gan"),
    (["mode=generate", "run=gan", "precision=bf16"], "precision=bf16 has no say", "mode=generate run=gan"),
    (["mode=generate", "run=gan", "output=gan"], "output=gan holds files", "mode=generate run=gan output=gan-2"),
    (["mode=predict", "run=gan"], "which makes them", "mode=generate run=gan"),
    (["mode=predict", "run=gan", "input=digit.png"], "mode=predict asks what a network says", "mode=generate run=gan"),
    (["mode=eval", "run=gan", "n=5"], "n belongs to mode=generate", "mode=generate run=gan n=5"),
    (["n=5"], "n belongs to mode=generate", "mode=generate n=5"),
    (["generate", "run=gan"], "nearest  mode=generate", "mode=generate run=gan"),
]


@pytest.mark.parametrize(("words", "said", "type_this"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_a_refusal_says_what_to_type(words: list[str], said: str, type_this: str, here: Path, capsys: Capture) -> None:
    before = tree_of(here)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert offered(told) == shlex.split(type_this)
    assert tree_of(here) == before
    precheck(shlex.split(type_this))


def test_a_run_without_checkpoint_and_one_that_is_edited_are_refused(here: Path, capsys: Capture) -> None:
    edit(Path("gan/environment.json"), lambda tree: tree["data_spec"].update(shape=[1, 30, 30]))
    assert main(["mode=generate", "run=gan"]) == 2
    assert "dcgan has no images of (1, 30, 30)" in capsys.readouterr().err
    edit(Path("gan/environment.json"), lambda tree: tree["data_spec"].update(shape=[1, 32, 32]))
    assert main(["mode=generate", "run=gan"]) == 2
    assert "another network" in capsys.readouterr().err
    shutil.rmtree("gan/checkpoints")
    assert main(["mode=generate", "run=gan"]) == 2
    assert "no checkpoint yet" in capsys.readouterr().err
    assert not Path("gan/generate").exists()


# ---- the other modes


def test_eval_measures_again_to_the_last_bit(here: Path) -> None:
    assert main(["mode=eval", "run=gan", "output=again"]) == 0
    then, now = (Run(Path(name)).results()["metrics"] for name in ("gan", "again"))
    assert now == {name: value for name, value in then.items() if name in now}
    assert {"test/nearest_distance", "test/checkerboard", "test/discriminator_accuracy"} <= now.keys()


def test_eval_takes_a_run_as_its_judge(here: Path, capsys: Capture) -> None:
    """And says what cannot be one; what a run of generated images is compared by is in its record."""
    assert main(["mode=eval", "run=gan", "task.judge=classifier", "task.samples=30", "output=judged"]) == 0
    assert {"test/fid", "test/recall", "test/class_share/7"} <= Run(Path("judged")).results()["metrics"].keys()
    capsys.readouterr()
    assert main(["mode=eval", "run=gan", "task.judge=gan"]) == 2
    told = capsys.readouterr().err
    assert "task.judge=gan is a run of task=adversarial" in told
    assert offered(told) == ["mode=eval", "run=gan", "task.judge=auto"]


def test_reproduce_comes_out_identical_and_compare_sets_runs_side_by_side(here: Path, capsys: Capture) -> None:
    assert main([*GAN, "task.judge=classifier", "trainer.epochs=1", "output=one"]) == 0
    assert main(["mode=reproduce", "run=one"]) == 0
    assert "identical      weights sha256" in capsys.readouterr().out
    assert main([*GAN, "task.judge=classifier", "trainer.epochs=1", "optim.lr=0.001", "output=two"]) == 0
    assert main(["mode=compare", "runs=[one,two]"]) == 0
    said = capsys.readouterr().out
    assert "optim.lr" in said
    assert "FID" in said
    edit(Path("two/environment.json"), lambda tree: tree["judge"].update(weights_sha256="0" * 64))
    assert main(["mode=compare", "runs=[one,two]"]) == 0
    assert "measured by another judge" in capsys.readouterr().out


def test_compare_of_runs_without_a_judge_takes_none_for_better(here: Path, capsys: Capture) -> None:
    assert main([*UNJUDGED, "task.loss=hinge", "output=other"]) == 0
    capsys.readouterr()
    assert main(["mode=compare", "runs=[gan,other]"]) == 0
    said = capsys.readouterr().out
    assert "has no metric that tells which is better" in said
    assert "step" not in said


def test_a_run_ends_with_the_command_for_its_images_and_that_runs(here: Path, capsys: Capture) -> None:
    assert main(UNJUDGED) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("next ")]
    assert line.split() == ["next", "dltrain", "mode=generate", "run=last"]
    assert main(["mode=generate", "run=last"]) == 0
    assert next(iter(all_runs()[0].glob("generate/*/grid.png"))).is_file()


def test_mode_data_offers_a_network_for_images_alone_and_what_it_offers_runs(here: Path, capsys: Capture) -> None:
    draw = np.random.RandomState(0)
    Path("photos").mkdir()
    for number in range(20):
        Image.fromarray(draw.randint(0, 256, (40, 40, 3)).astype(np.uint8)).save(f"photos/{number}.png")
    assert main(["mode=data", "data=images", "data.root=photos", "data.size=50"]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("next ")]
    words = line.split()[2:]
    assert words == ["data=images", "data.root=photos", "model=dcgan", "data.size=32x32", "trainer.dry_run=true"]
    small = ["model.base_channels=2", "task.judge=none", "task.samples=8", "trainer.batch_size=4", "trainer.threads=1"]
    assert main([*words, *small]) == 0


# ---- as ONNX


@pytest.fixture
def onnx_session() -> Callable[[str], Any]:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return lambda folder: onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])


def test_the_exported_generator_makes_the_images_of_mode_generate(
    here: Path, onnx_session: Callable[[str], Any], capsys: Capture
) -> None:
    """In batches of other sizes, from the latents that were written."""
    assert main(["mode=export", "run=gan", "output=exported"]) == 0
    said = capsys.readouterr().out
    assert "latents: float32 (batch, 6)" in said
    assert "images: float32 (batch, 1, 28, 28) in 0 to 1" in said
    assert main(["mode=generate", "run=gan", "n=40", "output=generated"]) == 0
    with np.load("generated/latents.npz") as file:
        latents = file["latents"]
    session = onnx_session("exported")
    assert session.get_inputs()[0].shape == ["batch", 6]
    for n in (1, 3, 40):
        (images,) = session.run(None, {"latents": latents[:n]})
        assert images.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
        assert np.abs(images[:, 0] * 255 - images_of("generated")[:n]).max() < 0.5 + 1e-2
    facts = json.loads(Path("exported/generator.json").read_text())
    assert facts["input"] == {"name": "latents", "type": "float32", "shape": ["batch", 6]}
    assert facts["output"]["shape"] == ["batch", 1, 28, 28]
    assert facts["weights_sha256"] == about("generated")["weights_sha256"]
    *_, code = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    exec(code, {})
    for number, pixels in enumerate(images_of("generated")):
        assert np.abs(np.array(Image.open(f"{number}.png")).astype(int) - pixels).max() <= 1


def test_a_file_that_makes_other_images_is_not_kept(
    here: Path, onnx_session: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """One pixel of one image is off; without that it is the control. What stands for the file is the network itself."""
    graph, off = export_generator.Graph(dltrain.load("gan").model.generator).eval(), [0.0]

    @torch.inference_mode()
    def spoiled(path: Path, name: str, parts: list[NDArray[Any]], threads: int) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = [graph(torch.from_numpy(part)).numpy() for part in parts]
        found[2][3, 0, -1, -1] += off[0]
        return found

    monkeypatch.setattr(export_generator, "save_graph", lambda path, *rest: path.write_bytes(b""))
    monkeypatch.setattr(export_generator, "run_file", spoiled)
    assert main(["mode=export", "run=gan", "output=right"]) == 0
    for off[0] in (2e-4, float("nan")):
        before = set(tree_of(here))
        assert main(["mode=export", "run=gan"]) == 1
        assert "makes other images than the network" in capsys.readouterr().err
        assert set(tree_of(here)) == before


# ---- rules that need no data


def config(*words: str) -> Any:
    cfg, _ = compose(list(words))
    check(cfg)
    return cfg


BETWEEN = [
    ("data=images data.root=photos", "model=lenet5 gives an answer for each image, and data=images has images alone"),
    ("data=images data.root=photos model=unet", "data=images has images alone"),
    ("data=images data.root=photos task=classification", "task=classification cannot learn from data=images"),
    ("data=images data.root=photos task=classification model=dcgan", "task=classification cannot learn from"),
    ("model=dcgan task=classification", "model=dcgan makes images, and task=classification wants an answer for each"),
    ("model=dcgan data=digits_pose task=regression", "task=regression wants an answer for each"),
    ("task=adversarial", "model=lenet5 gives an answer for each image, and task=adversarial learns to make images"),
    ("task=adversarial model=unet", "an answer for each pixel"),
    ("model=dcgan data=digit_scenes", "model=dcgan learns to make images, and has no use for the masks"),
    ("model=dcgan data=mask_folder data.root=cells", "no use for the masks of data=mask_folder"),
    ("task=adversarial data=digit_scenes", "task=adversarial learns to make images, and has no use for the masks"),
    ("model=dcgan data.mean=null", "data.mean=null, the set's own mean, puts real images elsewhere"),
    ("model=dcgan data.std=[0.3]", "data.std=[0.3] puts real images elsewhere than in -1 to 1, where model=dcgan"),
    ("model=dcgan data=cifar10 data.mean=[0.5,0.5,0.4]", "data.mean=[0.5,0.5,0.4] puts"),
    ("model=dcgan task.loss=wgan_gp", "task.loss=wgan_gp task.gradient_penalty=10 is about the gradient at each image"),
    ("model=dcgan task.r1=10", "task.r1=10 is about the gradient at each image"),
    ("model=dcgan task.gradient_penalty=5", "task.gradient_penalty=5 does nothing under task.loss=non_saturating"),
    (
        "model=dcgan task.loss=hinge task.gradient_penalty=0",
        "task.gradient_penalty=0 does nothing under task.loss=hinge",
    ),
    ("model=dcgan task.r1_every=4", "task.r1_every=4 does nothing without task.r1"),
    (
        "model=dcgan task.loss=wgan_gp model.discriminator_norm=none trainer.compile=true",
        "needs the gradient of a gradient, which torch.compile does not have: trainer.compile=true",
    ),
    (
        "model=dcgan task.r1=1 model.discriminator_norm=spectral trainer.compile=true",
        "task.r1=1 needs the gradient of a gradient",
    ),
    ("model=dcgan task.judge=none trainer.early_stop=3", "trainer.early_stop=3 waits for a better FID, and none"),
    ("model=dcgan task.judge=diggits", "task.judge=diggits is no judge"),
    ("model=dcgan task.judge=nowhere/at/all", "task.judge=nowhere/at/all is not there"),
    ("model=dcgan data.size=30", "images of 30x30 do not suit dcgan"),
    ("model=dcgan data.size=28x32", "images of 28x32 do not suit dcgan"),
]


@pytest.mark.parametrize(("words", "said"), BETWEEN, ids=[row[0] for row in BETWEEN])
def test_what_a_generators_settings_ask_of_each_other(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Each is refused before torch, with key and value, what is allowed, and a command that passes the same rules."""
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert "\n  allowed  " in told
    if "nowhere" in words:
        return
    again = offered(told)
    config(*precheck(again))


def test_extras_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    import importlib.util

    real = importlib.util.find_spec
    gone = "torch_fidelity"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == gone else real(name, *rest))
    monkeypatch.chdir(tmp_path)
    assert main(["model=dcgan", "task.judge=inception"]) == 2
    assert 'pip install "dltrain[fid]"' in capsys.readouterr().err
    words = ["data=images", "data.root=photos", "model=dcgan", "trainer.early_stop=2"]
    with pytest.raises(Mistake, match="data=images has no classes") as told:
        config(*words)
    config(*words[:-1], *shlex.split(told.value.type_this))


@pytest.mark.parametrize(
    "words",
    [
        "model=dcgan",
        "model=dcgan data=cifar10",
        "model=dcgan data=cifar10 data.mean=[0.5,0.5,0.5] data.std=[0.5]",
        "model=dcgan data=images data.root=photos",
        "model=dcgan data=digits_pose",
        "model=dcgan task.loss=wgan_gp model.discriminator_norm=none",
        "model=dcgan task.loss=wgan_gp task.gradient_penalty=0",
        "model=dcgan task.loss=hinge model.discriminator_norm=spectral trainer.compile=true",
        "model=dcgan task.r1=10 task.r1_every=1 model.discriminator_norm=none",
        "model=dcgan task.judge=digits trainer.early_stop=3",
        "model=dcgan data.augment.flip=0.5",
        "mode=data data=images data.root=photos",
        "mode=data model=lenet5 data.mean=[0.2]",
    ],
)
def test_what_is_right_passes(words: str) -> None:
    config(*precheck(words.split()))


KEYS = [
    ("task.r1=10", ["model=dcgan", "task.r1=10"]),
    ("task.loss=hinge", ["model=dcgan", "task.loss=hinge"]),
    ("model=lenet5 task.judge=none", ["model=dcgan", "task.judge=none"]),
    ("model=dcgan task.label_smoothing=0.1", ["model=dcgan"]),
    ("model=unet data=digit_scenes task.r1=1", ["model=unet", "data=digit_scenes"]),
    ("n_critic=5", ["model=dcgan", "task.discriminator_steps=5"]),
    ("nz=64", ["model=dcgan", "model.latent_dim=64"]),
]


@pytest.mark.parametrize(("words", "fixed"), KEYS, ids=[row[0] for row in KEYS])
def test_a_key_of_the_task_brings_its_network(words: str, fixed: list[str]) -> None:
    """Or goes, where another network was typed."""
    with pytest.raises(Mistake) as told:
        precheck(words.split())
    again = shlex.split(told.value.type_this)[1:]
    assert again == fixed
    precheck(again)
