"""mode=export of a segmentation: images of any size through the file, as through the network."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dltrain
from dltrain.cli import main
from dltrain.config.sides import Sides
from dltrain.config.spec import DataSpec, Target
from dltrain.modes import export, export_onnx
from dltrain.modes.export_onnx import Difference, difference, small_size
from tests.models.family import MASK_NAMES
from tests.modes.disc_files import NAMES, NET, SET, SHORT, SIZES, indexes, write_files, write_set

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

DOCS = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
SLOW = {
    "no padding": ["model.padding=valid", "model.depth=3", "data.crop=68"],
    "three levels by repetition": ["model.depth=3", "model.up=nearest", "model.skips=false"],
    "resized": ["data.size=16x20", "data.crop=16x20"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the set, and files to predict."""
    place = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_set()
        write_files(Path("files"))
    return place


@pytest.fixture(scope="module", params=["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def exported(request: pytest.FixtureRequest, place: Path) -> tuple[str, str]:
    """A run, exported: its name, and what the screen said."""
    name = request.param.replace(" ", "-")
    words = [*SET, *NET, *SHORT, "precision=bf16", "trainer.ema=0.9", *SLOW.get(request.param, [])]
    last = {word.partition("=")[0]: word for word in words}  # a key that is given twice is a mistake
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*last.values(), f"output={name}"]) == 0
        said: list[str] = []
        patch.setattr("dltrain.report.terminal.Screen.line", lambda self, text="", *rest, **more: said.append(text))
        assert main(["mode=export", f"run={name}", f"output={name}-onnx"]) == 0
    return name, "\n".join(said)


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def about_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{name}-onnx/preprocess.json").read_text(encoding="utf-8"))
    return found


def test_images_of_every_size_and_number_get_the_networks_answers(exported: tuple[str, str], here: Path) -> None:
    """Independent of the mode's own check: other images, other sizes, softmax of the network's own outputs."""
    name = exported[0]
    run = dltrain.load(name)
    sides = run.model.sides
    session = onnxruntime.InferenceSession(f"{name}-onnx/model.onnx", providers=["CPUExecutionProvider"])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (run.spec.mean, run.spec.std))
    least = sides.up(2 * sides.lost + 1)
    sizes = [(least, least), (least + 3 * sides.stride, least + sides.stride), (sides.up(130), sides.up(90))]
    for number, size in zip((1, 5, 2), sizes, strict=True):
        images = np.random.RandomState(number).randint(0, 256, (number, 3, *size)).astype(np.uint8)
        (theirs,) = session.run(None, {"images": images})
        with torch.inference_mode():
            ours = run.model((torch.from_numpy(images) / 255 - mean) / std).softmax(1).numpy()
        assert theirs.dtype == np.float32
        assert theirs.shape == (number, 3, size[0] - 2 * sides.lost, size[1] - 2 * sides.lost)
        assert np.abs(theirs - ours).max() <= 1e-4


def test_the_reader_in_the_docs_gives_predicts_masks(exported: tuple[str, str], here: Path) -> None:
    """Code that has nothing of dltrain, on files of all sizes, one of them on its side."""
    name = exported[0]
    first, second, *_ = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    space: dict[str, Any] = {}
    code = first[: first.index("def predict")] + second
    exec(code.replace('"exported/', f'"{name}-onnx/'), space)
    assert main(["mode=predict", f"run={name}", "precision=fp32", "input=files", f"output={name}-said"]) == 0
    for file in [*SIZES, "turned.png"]:
        theirs, ours = space["mask"](f"files/{file}"), indexes(Path(f"{name}-said/masks", file).with_suffix(".png"))
        if theirs.shape != ours.shape:  # resized: back to the file's own size by nearest
            rows, columns = (
                (np.arange(n) * 2 + 1) * k // (2 * n) for n, k in zip(ours.shape, theirs.shape, strict=True)
            )
            theirs = theirs[np.ix_(rows, columns)]
        assert (theirs != ours).mean() < 2e-3  # where two classes are within a rounding of each other


def test_the_file_tells_what_it_takes_and_gives(exported: tuple[str, str], here: Path) -> None:
    name, said = exported
    about, sides = about_of(name), dltrain.load(name).model.sides
    assert about["input"]["shape"] == ["batch", 3, "height", "width"]
    rim = f" - {2 * sides.lost}" if sides.lost else ""
    assert about["output"] == {"name": "probabilities", "shape": ["batch", 3, f"height{rim}", f"width{rim}"]}
    assert about["class_names"] == NAMES
    numbers = {key: about["sides"][key] for key in ("stride", "offset", "margin", "lost")}
    assert numbers == {"stride": sides.stride, "offset": sides.offset, "margin": sides.margin, "lost": sides.lost}
    assert "height" not in about["preprocessing"]
    model = onnx.load(f"{name}-onnx/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    inside = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(inside["sides"]) == about["sides"]
    multiple = f"sides of k * {sides.stride}" + (f" + {sides.offset}" if sides.offset else "")
    assert f"images: uint8 (batch, 3, height, width), {multiple}; normalized inside" in said
    found = re.search(r"probabilities differ by (\S+) at most", said)
    assert found
    assert 0 <= float(found[1]) < 1e-5


def test_the_snippet_on_the_screen_runs(exported: tuple[str, str], here: Path) -> None:
    name, said = exported
    space: dict[str, Any] = {}
    exec("\n".join(line[4:] for line in said.splitlines() if line.startswith("    ")), space)
    shape, lost = dltrain.load(name).spec.shape, about_of(name)["sides"]["lost"]
    assert space["mask"].shape == (1, shape[1] - 2 * lost, shape[2] - 2 * lost)


def test_sides_that_the_exporter_cannot_leave_open_are_those_of_the_windows(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """And the screen and the file say so; what fails with those too is a failure."""
    assert main([*SET, *NET, "trainer.steps=1", *SHORT[1:], "output=fixed"]) == 0
    real = torch.onnx.export

    def only_fixed(*args: Any, dynamic_shapes: Any, **more: Any) -> Any:
        if len(dynamic_shapes[0]) > 1:
            raise RuntimeError("no open sides\nhere")
        return real(*args, dynamic_shapes=dynamic_shapes, **more)

    monkeypatch.setattr(torch.onnx, "export", only_fixed)
    capsys.readouterr()
    assert main(["mode=export", "run=fixed", "output=fixed-onnx"]) == 0
    told = capsys.readouterr()
    assert "only windows of 32x32, since the network cannot be written as ONNX: RuntimeError no open sides here" in (
        told.err
    )
    assert "images: uint8 (batch, 3, 32, 32); normalized inside" in told.out
    about = about_of("fixed")
    assert about["output"]["shape"] == ["batch", 3, 32, 32]
    assert (about["sides"]["height"], about["sides"]["width"]) == (32, 32)
    assert "stride" not in about["sides"]
    session = onnxruntime.InferenceSession("fixed-onnx/model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **more: only_fixed(*args, dynamic_shapes=[{0: 1, 2: 2}]))
    assert main(["mode=export", "run=fixed", "output=none"]) == 1
    assert not Path("none").exists()


def test_a_file_that_is_wrong_at_one_pixel_is_not_kept(exported: tuple[str, str], here: Path, monkeypatch: Any) -> None:
    """The control is the same check of the same file."""
    name = exported[0]
    real, off = export_onnx.difference, 0.0

    def spoiled(ours: Any, theirs: Any, spec: DataSpec) -> Difference:
        theirs = theirs.copy()
        theirs[0, 0, -1, -1] += off
        return real(ours, theirs, spec)

    monkeypatch.setattr(export_onnx, "difference", spoiled)
    file = Path(f"{name}-onnx/model.onnx").read_bytes()
    monkeypatch.setattr(export, "write_onnx", lambda path, *rest: path.write_bytes(file))
    assert main(["mode=export", f"run={name}", f"output={name}-right"]) == 0
    off = 2e-4
    assert main(["mode=export", f"run={name}", f"output={name}-wrong"]) == 1
    assert not Path(f"{name}-wrong").exists()


def test_difference_sees_one_pixel_of_many() -> None:
    spec = DataSpec("x", (1, 4, 4), Target.mask, ("a", "b"), {}, (0.0,), (1.0,))
    a = np.full((2, 2, 40, 40), 0.5, np.float32)
    b = a.copy()
    assert difference(a, b, spec) == Difference(0.0, 0.0)
    b[1, 0, 39, 0] += np.float32(0.25)
    assert difference(a, b, spec).answers == 0.25
    assert difference(a, b, spec).logits == pytest.approx(np.log(1.5))
    assert not difference(a, b[:, :, :38], spec).small


def test_probes_have_sides_that_the_network_takes_and_that_differ() -> None:
    for sides in (Sides(16, 0, 140, 0), Sides(16, 12, 92, 92), Sides(8, 4, 36, 36)):
        size = small_size(sides)
        assert size[0] != size[1]
        assert all((side - sides.offset) % sides.stride == 0 and side > 2 * sides.lost for side in size)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64", "96x128"])  # from 65 pixels on a ResNet has another stem
@pytest.mark.parametrize("name", MASK_NAMES)
def test_every_name_is_exported_and_answers_as_its_network(
    name: str, size: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """By the mode's own check of the file, at two sizes; at the widths that the name stands for."""
    monkeypatch.chdir(tmp_path)
    few = ["data=digit_scenes", f"data.size={size}", "data.train_scenes=4", "trainer.steps=1", "trainer.batch_size=2"]
    few += ["trainer.overfit_batches=1", "log.pictures=false"]
    assert main([f"model={name}", *few, "trainer.threads=1", "log=quiet", "output=run"]) == 0
    assert main(["mode=export", "run=run", "output=made"]) == 0
    assert json.loads(Path("made/preprocess.json").read_text())["input"]["shape"][2:] == ["height", "width"]
