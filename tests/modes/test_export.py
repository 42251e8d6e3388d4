"""mode=export: the file answers as the network does, for every network, or it is not kept."""

import json
import os
import re
import shutil
import tempfile
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
from dltrain.config import table
from dltrain.config.choices import keys_of
from dltrain.config.spec import DataSpec, Target
from dltrain.modes import export, export_onnx
from dltrain.modes.export_onnx import Difference, difference, probes
from tests.models.family import CLASSIFIER_NAMES, CLASSIFIERS, few_pixels, settings
from tests.modes.digit_files import share_right, write_digits
from tests.runs.states import tree_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
SHORT = ["trainer.threads=1", "log=quiet", "trainer.steps=30"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory for what the tests share."""
    return tmp_path_factory.mktemp("exports")


LEARNED = ("model=mlp", "model=lenet5", "model=lenet5_caffe")  # of these 30 steps make more than half of it right


def words_for(network: tuple[str, ...]) -> list[str]:
    """What makes an export hard, as far as the model has it: norms to fold, an average, bf16, channels-last."""
    known = {key.name for key in keys_of(table.schema("model", network[0].partition("=")[2]), "model.")}
    hard = [word for word in ("model.norm=batch", "model.dropout=0.2") if word.partition("=")[0] in known]
    few = ["trainer.steps=8", "trainer.batch_size=16", "trainer.overfit_batches=1", *few_pixels(network)]
    few = ["trainer.steps=30"] if network[0] in LEARNED else few
    return [*network, "precision=bf16", "trainer.ema=0.9", "trainer.memory_format=channels_last", *hard, *few]


SLOW = ("model=resnet50", "model=inception_v1")  # no other operations than ResNet-18's; many layers
EXPORTED = [
    pytest.param(words, id=" ".join(words), marks=pytest.mark.slow if words[0] in SLOW else ())
    for words in (member.words for member in CLASSIFIERS)
]


@pytest.fixture(scope="module", params=EXPORTED)
def exported(request: pytest.FixtureRequest, place: Path) -> tuple[str, str, list[str]]:
    """A run of each family, exported: its name, what the screen said, and the loggers' and libraries' chatter."""
    name = request.param[0].partition("=")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*words_for(request.param), *SHORT[:2], f"output={name}"]) == 0
        said = _main_quietly(["mode=export", f"run={name}", f"output={name}-onnx"])
    return name, *said


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIER_NAMES)
def test_every_name_is_exported_and_answers_as_its_network(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """By the mode's own check of the file, which ends with 1 where it does not; at the size of large images too."""
    monkeypatch.chdir(tmp_path)
    large = [] if name in ("lenet5", "mlp", "mlp_300_100") else ["data.size=96x80"]
    few = ["data.classes=[3,7]", "data.train_per_class=4", "trainer.steps=2", "trainer.batch_size=4"]
    assert main([f"model={name}", *large, *few, "trainer.threads=1", "log=quiet", "output=run"]) == 0
    assert main(["mode=export", "run=run", "output=made"]) == 0
    assert json.loads(Path("made/preprocess.json").read_text())["model"] == settings(f"model={name}").title
    shutil.rmtree("run")
    shutil.rmtree("made")


@pytest.mark.parametrize(
    "kind", ["cbam", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("se", "spatial_softmax"))]
)
def test_attention_is_exported_and_answers_as_its_network(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    """By the mode's own check of the file."""
    monkeypatch.chdir(tmp_path)
    few = ["data.classes=[3,7]", "data.train_per_class=4", "trainer.steps=2", "trainer.batch_size=4"]
    network = ["model=resnet20", "model.n=1", f"model.attention={kind}"]
    assert main([*network, *few, "trainer.threads=1", "log=quiet", "output=run"]) == 0
    assert main(["mode=export", "run=run", "output=made"]) == 0
    assert Path("made/model.onnx").is_file()


def _main_quietly(words: list[str]) -> tuple[str, list[str]]:
    """Standard output and standard error of the whole process, down to its C libraries."""
    texts = []
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            with (
                open(1, "w", closefd=False) as screen,
                open(2, "w", closefd=False) as errors,
                pytest.MonkeyPatch.context() as patch,
            ):
                patch.setattr("sys.stdout", screen)
                patch.setattr("sys.stderr", errors)
                assert main(words) == 0
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return texts[0], texts[1].splitlines()


def session_of(folder: Path) -> Any:
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def answers_of(folder: Path, images: NDArray[np.uint8]) -> NDArray[Any]:
    found: NDArray[Any] = session_of(folder).run(None, {"images": images})[0]
    return found


def noise(shape: tuple[int, ...], number: int) -> NDArray[np.uint8]:
    return np.random.RandomState(number).randint(0, 256, (number, *shape)).astype(np.uint8)


# ---- every network


def test_every_model_answers_from_its_file_as_in_float32(exported: tuple[str, str, list[str]], place: Path) -> None:
    """Independent of the mode's own check: other images, other batches, dltrain.load beside it."""
    name, _, _ = exported
    run = dltrain.load(place / name)
    normalize = run.spec.mean, run.spec.std
    for number in (1, 2, 5, 33):
        images = noise(run.spec.shape, number)
        theirs = answers_of(place / f"{name}-onnx", images)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normalize)
        with torch.inference_mode():
            logits = run.model((torch.from_numpy(images) / 255 - mean) / std)
        assert theirs.shape == (number, run.spec.num_outputs)
        assert theirs.dtype == np.float32
        assert np.abs(theirs - logits.softmax(1).numpy()).max() <= 1e-4
        logs = logits.log_softmax(1).numpy()
        assert np.abs(np.log(theirs) - logs).max() <= 1e-4 * max(1.0, np.abs(logs).max())


def test_what_the_screen_says_is_all_that_it_shows(exported: tuple[str, str, list[str]], place: Path) -> None:
    name, shown, errors = exported
    assert errors == []
    first = [line.split("  ")[0] for line in shown.splitlines() if line and not line.startswith(" ")]
    assert first == ["dltrain 0.1.0", name, "checked", "input", "output", "files", "written"]
    assert shown.splitlines()[-1].split()[-1] == f"{name}-onnx"
    assert sorted(path.name for path in (place / f"{name}-onnx").iterdir()) == ["model.onnx", "preprocess.json"]
    found = re.search(r"probabilities differ by (\S+) at most", shown)
    assert found
    assert 0 <= float(found[1]) < 1e-5


def test_the_snippet_on_the_screen_runs(exported: tuple[str, str, list[str]], place: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(place)
    code = "\n".join(line[4:] for line in exported[1].splitlines() if line.startswith("    "))
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["probabilities"].shape == (1, 10)


def test_the_file_tells_what_it_takes_and_gives(exported: tuple[str, str, list[str]], place: Path) -> None:
    name = exported[0]
    folder, run = place / f"{name}-onnx", dltrain.load(place / name)
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,), (output,) = session_of(folder).get_inputs(), session_of(folder).get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", *run.spec.shape])
    assert (output.name, output.shape) == ("probabilities", ["batch", 10])
    beside = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    inside = {prop.key: prop.value for prop in model.metadata_props}
    assert {
        key: value if isinstance(beside[key], str) else json.loads(value) for key, value in inside.items()
    } == beside
    assert beside["class_names"] == list(run.class_names)
    assert beside["weights_sha256"] == checkpoint.weights_sha256(run.task.state_dict())
    assert beside["preprocessing"]["normalization"]["mean"] == list(run.spec.mean)
    assert [beside["preprocessing"][key] for key in ("channels", "height", "width")] == list(run.spec.shape)
    content = (folder / "model.onnx").read_bytes()
    for path in (str(ROOT), str(place), str(Path.home())):
        assert path.encode() not in content


# ---- the whole way from files


def reader(folder: str) -> dict[str, Any]:
    """The code in docs/onnx.md, which has nothing of dltrain, for the files in a folder."""
    code, *_ = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code.replace('"exported/', f'"{folder}/'), space)
    return space


def test_the_reader_in_the_docs_gives_predicts_answers_and_its_accuracy(
    exported: tuple[str, str, list[str]], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """1,000 digits through the file by code that has nothing of dltrain, and through mode=predict in float32."""
    monkeypatch.chdir(place)
    name = exported[0]
    if not Path("digits").exists():
        write_digits(Path("digits"))
        shutil.copy("digits/7/3950.png", "photo.png")
    assert main(["mode=predict", f"run={name}", "precision=fp32", "input=digits", f"output={name}-said"]) == 0
    capsys.readouterr()
    space = reader(f"{name}-onnx")
    assert capsys.readouterr().out.split()[0] in [str(digit) for digit in range(10)]
    found = json.loads(Path(f"{name}-said/predictions.json").read_text())["predictions"]
    answers = space["predict"]([f"digits/{entry['file']}" for entry in found])
    names = space["about"]["class_names"]
    theirs = {entry["file"]: names[row.argmax()] for entry, row in zip(found, answers, strict=True)}
    ours = {entry["file"]: entry["class"] for entry in found}
    assert len(found) == 1000
    assert share_right(theirs) == share_right(ours)
    assert share_right(ours) > 0.5 or f"model={name}" not in LEARNED
    assert max(abs(entry["probability"] - row.max()) for entry, row in zip(found, answers, strict=True)) <= 1e-4


def test_photos_of_any_size_and_orientation_come_the_same_way_to_real_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Three channels, another shape than a square, a regression of two values: file, reader and predict agree."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.RandomState(0)
    Path("photos").mkdir()
    lines = ["file,light,far"]
    for index in range(24):
        size = (draw.randint(10, 60), draw.randint(10, 60), 3)
        light = draw.randint(0, 200)
        exif = Image.Exif()
        exif[0x0112] = index % 8 + 1
        Image.fromarray((light + draw.randint(0, 50, size)).astype(np.uint8)).save(f"photos/{index}.png", exif=exif)
        lines.append(f"{index}.png,{light},{2000 + light / 1000}")
    Path("photos/table.csv").write_text("\n".join(lines))
    words = ["data=csv", "data.root=photos/table.csv", "data.values=[light,far]", "data.size=12x16", "model=mlp"]
    assert main([*words, "model.widths=[8]", *SHORT, "trainer.batch_size=6", "device=cpu"]) == 0
    assert main(["mode=export", "run=last", "output=exported"]) == 0
    assert "standard deviations" in capsys.readouterr().out
    assert main(["mode=predict", "run=last", "input=photos", "output=predicted"]) == 0
    shutil.copy("photos/1.png", "photo.png")
    code, *_ = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code[: code.index("for answer in")], space)
    about = space["about"]
    assert about["input"]["shape"] == ["batch", 3, 12, 16]
    assert (about["value_names"], about["output"]) == (["light", "far"], {"name": "values", "shape": ["batch", 2]})
    found = json.loads(Path("predicted/predictions.json").read_text())["predictions"]
    assert len(found) == 24
    answers = space["predict"]([f"photos/{entry['file']}" for entry in found])
    run = dltrain.load("last")
    assert answers.dtype == np.float64
    for entry, row in zip(found, answers, strict=True):
        assert list(entry["values"].values()) == pytest.approx(row.tolist(), rel=1e-5, abs=1e-3)
        assert run.predict(f"photos/{entry['file']}") == pytest.approx(entry["values"], rel=1e-5)


# ---- what does not come out right is not kept


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["model=mlp", "model.widths=[8]", *SHORT, "output=small"]) == 0
        assert main(["mode=export", "run=small", "output=small-onnx"]) == 0
    return place / "small"


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, for the test to spoil."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_same_weights_give_the_same_bytes(here: Path, finished: Path) -> None:
    assert main(["mode=export", f"run={finished}", "output=again"]) == 0
    for file in ("model.onnx", "preprocess.json"):
        assert Path("again", file).read_bytes() == (finished.parent / "small-onnx" / file).read_bytes()


def test_a_file_that_answers_otherwise_is_not_kept(
    here: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One bias of ten is 0.01 off; the control is the same file unchanged."""

    def write(path: Path, off: float) -> None:
        model = onnx.load(place / "small-onnx/model.onnx")
        (bias,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("output.bias"))
        values = onnx.numpy_helper.to_array(bias).copy()
        values[0] += off
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        onnx.save(model, path)

    monkeypatch.setattr(export, "write_onnx", lambda path, *rest: write(path, 0.0))
    assert main(["mode=export", "run=run", "output=right"]) == 0
    before = set(tree_of(here))
    monkeypatch.setattr(export, "write_onnx", lambda path, *rest: write(path, 0.01))
    assert main(["mode=export", "run=run"]) == 1
    assert "does not answer as the network does" in capsys.readouterr().err
    assert set(tree_of(here)) == before


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        (RuntimeError("no such operator\n  in this exporter"), 1, "cannot be written as ONNX: RuntimeError\n  no such"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device"), 1, "no space left on"),
    ],
)
def test_an_export_that_fails_leaves_nothing(
    what: BaseException, code: int, said: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise what

    monkeypatch.setattr(torch.onnx, "export", fail)
    before = set(tree_of(here))
    assert main(["mode=export", "run=run"]) == code
    assert said in capsys.readouterr().err
    assert set(tree_of(here)) == before


def test_a_file_that_cannot_be_run_is_a_failure(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(export, "write_onnx", lambda path, *rest: path.write_bytes(b"no model"))
    before = set(tree_of(here))
    assert main(["mode=export", "run=run"]) == 1
    assert "onnxruntime cannot run the file" in capsys.readouterr().err
    assert set(tree_of(here)) == before


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_a_mistake_before_anything_is_read(
    missing: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else real(name, *rest))
    monkeypatch.setattr(export, "run", None)
    assert main(["mode=export", "run=run"]) == 2
    told = capsys.readouterr().err
    assert f"needs the package {missing}, not installed" in told
    assert 'type     pip install "dltrain[export]"' in told


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "mode=export needs a run"),
        (["run=run", "output=digits.onnx"], "output=digits"),
        (["run=run", "output=run"], "output=run-2"),
        (["run=run", "input=x"], "input"),
        (["run=run", "model=lenet5"], "model=lenet5 has no say"),
    ],
)
def test_mistakes_make_nothing(words: list[str], shown: str, here: Path, capsys: Any) -> None:
    before = tree_of(here)
    assert main(["mode=export", *words]) == 2
    assert shown in capsys.readouterr().err
    assert tree_of(here) == before


def test_weights_beyond_one_file_lie_beside_it(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(export_onnx, "LARGEST_FILE", 1000)
    assert main(["mode=export", "run=run", "output=two"]) == 0
    assert "model.onnx.data" in capsys.readouterr().out
    assert sorted(path.name for path in Path("two").iterdir()) == ["model.onnx", "model.onnx.data", "preprocess.json"]
    shutil.move("two", "elsewhere")
    assert answers_of(Path("elsewhere"), noise((1, 28, 28), 2)).shape == (2, 10)


# ---- the measure itself


def spec_of(shape: tuple[int, int, int], classes: int = 3) -> DataSpec:
    names = tuple(f"c{i}" for i in range(classes))
    return DataSpec("x", shape, Target.classes, names, {}, (0.0,) * shape[0], (1.0,) * shape[0])


def test_difference_sees_what_differs_and_what_is_no_number() -> None:
    spec = spec_of((1, 1, 1))
    a = np.array([[0.7, 0.2, 0.1]], np.float32)
    assert difference(a, a, spec) == Difference(0.0, 0.0)
    assert difference(a, a, spec).small
    assert not difference(a, a + np.float32(2e-4), spec).small
    faint = np.array([[1.0, 1e-20, 1e-25]], np.float32)
    wrong = np.array([[1.0, 1e-20, 1e-10]], np.float32)
    assert difference(faint, wrong, spec).answers < 1e-9
    assert not difference(faint, wrong, spec).small  # probabilities alone would not have seen it
    for odd in (np.nan, np.inf):
        assert not difference(a, a * np.float32(odd), spec).small
        assert not difference(a * np.float32(odd), a, spec).small
        assert not difference(a * np.float32(odd), a * np.float32(odd), spec).small
    assert not difference(a, a[:, :2], spec).small
    values = DataSpec("x", (1, 1, 1), Target.values, (), {}, (0.0,), (1.0,), value_names=("v",), value_std=(1000.0,))
    assert difference(np.array([[5.0]]), np.array([[5.05]]), values).answers == pytest.approx(5e-5)
    assert not difference(np.array([[5.0]]), np.array([[5.2]]), values).small


def test_probes_are_digits_and_noise_of_the_networks_shape() -> None:
    images = probes(spec_of((3, 20, 30)))
    assert images.shape == (13, 3, 20, 30)
    assert images.dtype == np.uint8
    assert np.array_equal(images[0, 0], images[0, 2])
    assert not np.array_equal(images[1, 0], images[1, 2])
    assert len({image.tobytes() for image in images}) == 13
    assert np.array_equal(images, probes(spec_of((3, 20, 30))))
