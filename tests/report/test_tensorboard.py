"""What lies in a run's event files, read back by TensorBoard's own readers."""

import ast
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from dltrain.cli import main
from dltrain.config import data, groups, mode, model
from dltrain.config.ranges import shown
from dltrain.report import events
from dltrain.report.clock import Clock
from dltrain.report.tensorboard import TensorBoard, tag_of
from dltrain.report.terminal import Screen
from dltrain.run import all_runs
from tests.faults.told import out_of_order, told

SMALL = ["model=mlp", "model.widths=[16]", "trainer.epochs=2", "trainer.batch_size=500", "trainer.threads=1"]
SMALL += ["device=cpu", "log.pictures=false"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0) -> Path:
    before = set(all_runs())
    keys = {word.partition("=")[0] for word in words}
    assert main([*(word for word in SMALL if word.partition("=")[0] not in keys), *words]) == code
    return next(iter(set(all_runs()) - before)).resolve()


def board(folder: Path, step: int = 0, screen: Screen | None = None) -> TensorBoard:
    cfg = mode.Train(model=model.LeNet5(), data=data.Digits(), trainer=groups.Trainer(), log=groups.Log())
    return TensorBoard(folder, cfg, screen or Screen(io.StringIO(), io.StringIO()), step)


def point(to: TensorBoard, step: int) -> None:
    to.step(step, {"train/loss": float(step)}, Clock())


def scalars(folder: Path, tag: str = "loss/loss") -> list[tuple[int, float]]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)] if tag in reader.Tags()["scalars"] else []


@pytest.mark.parametrize(
    ("name", "split", "tag"),
    [
        ("train/loss", "train", "loss/loss"),
        ("val/loss", "val", "loss/loss"),
        ("test/accuracy", "test", "metric/accuracy"),
        ("train/generator/loss", "train", "loss/generator/loss"),
        ("train/generator/aux_loss", "train", "loss/generator/aux_loss"),
        ("val/first_loss", "val", "loss/first_loss"),
        ("train/discriminator/real_score", "train", "metric/discriminator/real_score"),
        ("val/fid", "val", "metric/fid"),
        ("val/class_share/7", "val", "metric_detail/class_share/7"),
        ("train/lr", "train", "optim/lr"),
        ("train/critic/clipped", "train", "optim/critic/clipped"),
        ("train/grad_norm", "train", "optim/grad_norm"),
        ("train/grad_norm/conv1", "train", "optim_detail/grad_norm/conv1"),
        ("train/critic/grad_norm/0.conv", "train", "optim_detail/critic/grad_norm/0.conv"),
        ("val/class_accuracy/a loss", "val", "metric_detail/class_accuracy/a loss"),
        ("val/class_accuracy/\x1b[31m", "val", r"metric_detail/class_accuracy/\x1b[31m"),
    ],
)
def test_each_scalar_has_its_group_and_train_and_val_share_it(name: str, split: str, tag: str) -> None:
    assert tag_of(name) == (split, tag)


def test_two_named_updates_have_charts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from dltrain.modes import train
    from tests.faults.pair import use_pair

    monkeypatch.setattr(train, "build_task", train.build_task)  # so that it is put back
    use_pair()
    found = told(run("log.every=2", "reg.l2=0.001"))
    for update in ("first", "second"):
        for name in ("loss", "grad_norm", "penalty"):
            group = "loss" if name == "loss" else "optim"
            assert [step for step, _ in found[f"train {group}/{update}/{name}"]] == [2, 4, 6, 8, 10, 12, 14]
    assert found["val loss/Best first_loss"][0][0] == 14


# ---- the table of runs


def table_of_runs(folder: Path) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Settings, status and metrics of each run as TensorBoard's server puts them together; the columns of metrics."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(TBContext(data_provider=provider))
    request = RequestContext()
    experiment = context.experiment_from_metadata(
        request, "", True, context.hparams_metadata(request, ""), context.hparams_from_data_provider(request, "", 1000)
    )
    columns = [(info.name.group, info.name.tag) for info in experiment.metric_infos]
    asked = api_pb2.ListSessionGroupsRequest(slice_size=100, include_metrics=True)
    asked.allowed_statuses.extend([api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN])
    for group, tag in columns:
        asked.col_params.add().metric.CopyFrom(api_pb2.MetricName(group=group, tag=tag))
    found = {}
    for one in list_session_groups.Handler(request, context, "", asked).run().session_groups:
        metrics = {(value.name.group, value.name.tag): value.value for value in one.metric_values}
        kinds = {key: getattr(value, value.WhichOneof("kind")) for key, value in one.hparams.items()}
        found[one.name] = {"settings": kinds, "status": one.sessions[0].status, "metrics": metrics}
    return found, columns


def test_runs_of_a_sweep_line_up_with_all_settings_and_their_val_and_test(capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in SMALL if not word.startswith("model")]
    assert main(["-m", *words, "model=mlp,lenet5", "seed=0,1"]) == 0
    folders = sorted(path.resolve() for path in all_runs())
    found, columns = table_of_runs(Path("outputs"))
    assert len(found) == 4
    for folder in folders:
        line = next(line for name, line in found.items() if name.startswith(f"{folder.name}  in outputs/sweeps/"))
        config = json.loads((folder / "config.json").read_text())
        assert line["settings"].keys() == {key for key, _ in leaves(config)}
        for key, value in leaves(config):
            found_there = line["settings"][key]
            assert found_there == (value if isinstance(value, int | float) else shown(value)), key
        assert line["status"] == api_pb2.STATUS_SUCCESS
        results = json.loads((folder / "results.json").read_text())
        best = line["metrics"]
        assert best["test", "metric/Best accuracy"] == pytest.approx(results["metrics"]["test/accuracy"])
        assert best["val", "metric/Best accuracy"] == pytest.approx(results["best"]["value"])
    # shown without being asked are the first five
    assert {("val", "metric/Best accuracy"), ("test", "metric/Best accuracy")} <= set(columns[:5])


def leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def test_command_config_and_environment_are_there_as_text() -> None:
    found = told(run("seed=3"))
    assert b"seed: 3\n" in found["train config"][0][1]
    assert b"widths: [16]\n" in found["train config"][0][1]
    assert b"dltrain model=mlp 'model.widths=[16]'" in found["train command"][0][1]
    assert all(line.startswith(b"    ") for line in found["train config"][0][1].split(b"\n"))


# ---- when a run goes on


def test_a_run_that_goes_on_longer_tells_what_a_run_of_that_length_tells() -> None:
    long = [word for word in SMALL if "epochs" not in word] + ["schedule=constant", "log.every=3"]
    short = run("schedule=constant", "log.every=3")
    assert main([f"resume={short}", "trainer.epochs=4"]) == 0
    assert main([*long, "trainer.epochs=4"]) == 0
    whole = next(path.resolve() for path in all_runs() if path.resolve() != short)
    one, other = told(short), told(whole)
    assert out_of_order(one) == []
    assert {name for name in one | other if one.get(name) != other.get(name)} == {"train command"}


def test_what_lies_beyond_the_step_is_gone_and_what_comes_is_behind_it(tmp_path: Path) -> None:
    first = board(tmp_path / "tensorboard")
    for step in (10, 20, 30):
        point(first, step)
        first.epoch({"epoch": 1, "step": step, "val/loss": 0.5})
    again = board(tmp_path / "tensorboard", 20)
    point(again, 30)
    assert scalars(tmp_path / "tensorboard") == [(10, 10.0), (20, 20.0), (30, 30.0)]
    assert scalars(tmp_path / "tensorboard" / "val") == [(10, 0.5), (20, 0.5)]
    board(tmp_path / "tensorboard", 0)
    assert scalars(tmp_path / "tensorboard") == []


TAILS: dict[str, Any] = {
    "half a record": lambda record: record[: len(record) // 2],
    "half a length": lambda record: record[:5],
    "all but a byte": lambda record: record[:-1],
    "zeros": lambda record: bytes(100),
    "rubbish": lambda record: b"\xff" * 64,
    "a length without end": lambda record: b"\xff" * 8 + record[8:],
    "a flipped bit at the end": lambda record: record[:-9] + bytes([record[-9] ^ 1]) + record[-8:],
    "zeros for data": lambda record: record[:12] + bytes(len(record) - 12) + record,
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_end_is_cut_off(tail: str, tmp_path: Path) -> None:
    first = board(tmp_path)
    for step in (10, 20):
        point(first, step)
    file = events.newest(tmp_path)
    assert file is not None
    before = file.stat().st_size
    point(first, 25)
    whole = file.read_bytes()
    file.write_bytes(whole[:before] + TAILS[tail](whole[before:]))
    point(board(tmp_path, 25), 30)
    assert scalars(tmp_path) == [(10, 10.0), (20, 20.0), (30, 30.0)]


@pytest.mark.parametrize("clock", [0, 9_999_999, -7200, 7200])
def test_the_newest_file_sorts_last_whatever_the_clock_says(
    clock: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(board(tmp_path), 10)
    first = events.newest(tmp_path)
    now = events.time.time()
    monkeypatch.setattr(events.time, "time", lambda: now + clock if abs(clock) == 7200 else float(clock))
    point(board(tmp_path, 10), 20)
    second = events.newest(tmp_path)
    assert first is not None
    assert second is not None
    assert second.name > first.name
    assert list(tmp_path.glob("*tfevents*")) == [second]
    assert scalars(tmp_path) == [(10, 10.0), (20, 20.0)]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.0000000001.theirs").write_bytes(b"theirs")
    point(board(tmp_path), 10)
    board(tmp_path, 0)
    assert (tmp_path / "events.out.tfevents.0000000001.theirs").read_bytes() == b"theirs"


# ---- what goes wrong costs events, never the run


def test_a_full_disk_is_one_warning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    whole = run()
    capsys.readouterr()
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    monkeypatch.setattr(events.EventFile, "_open", lambda self: Path("/dev/full").open("wb"))  # noqa: SIM115
    full = run()
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert weights(full) == weights(whole)


def test_a_disk_that_fills_up_later_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = events.EventFile.sync, []

    def sync(self: events.EventFile) -> None:
        calls.append(self)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        real(self)

    monkeypatch.setattr(events.EventFile, "sync", sync)
    run()
    assert capsys.readouterr().err.count("TensorBoard gets no more of it") == 1


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path: Path) -> None:
    err = io.StringIO()
    (tmp_path / "tensorboard").write_text("a file")
    to = board(tmp_path / "tensorboard", 10, Screen(io.StringIO(), err))
    for step in (10, 20):
        point(to, step)
    to.flush()
    to.end({"steps": 20, "metrics": {}, "best": None}, completed=True)
    assert err.getvalue().count("warning") == 1
    assert "File exists" in err.getvalue()


def weights(folder: Path) -> str:
    return str(json.loads((folder / "results.json").read_text())["weights_sha256"])


# ---- pictures and histograms


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "1", "P"])
def test_a_picture_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).convert(kind)
    board(tmp_path).image("val/confusion", image, 5)
    reader = EventAccumulator(str(tmp_path / "val"))
    reader.Reload()
    (event,) = reader.Images("confusion")
    back = Image.open(io.BytesIO(event.encoded_image_string))
    assert (event.step, event.width, event.height) == (5, 7, 9)
    assert np.array_equal(np.asarray(back.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 1.0, 2.0, math.nan, math.inf, -math.inf],
        [1.0, 1.0 + 2**-23],  # neighbours in float32: as many bins do not fit between them there
        [3.0] * 5,
        [1e38, -1e38],
        [1e-45, 0.0],
    ],
)
def test_histograms_count_every_finite_value(values: list[float], tmp_path: Path) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    board(tmp_path).histograms([("weights/w", tensor), ("gradients/w", torch.tensor([math.nan]))], 5)
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert reader.Tags()["histograms"] == ["weights/w"]
    histogram = reader.Histograms("weights/w")[0].histogram_value
    finite = tensor[torch.isfinite(tensor)].double()
    assert histogram.num == sum(histogram.bucket) == len(finite)
    assert (histogram.min, histogram.max) == (float(finite.min()), float(finite.max()))
    assert histogram.sum == pytest.approx(float(finite.sum()))
    assert histogram.sum_squares == pytest.approx(float(finite.square().sum()))
    below = [sum(histogram.bucket[: i + 1]) for i in range(len(histogram.bucket))]
    for limit, count in zip(histogram.bucket_limit[:-1], below[:-1], strict=True):
        assert count == int((finite < limit).sum())


# ---- what it costs


def test_what_is_heavy_is_imported_late() -> None:
    for path in sorted(Path(events.__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"tensorboard", "matplotlib"}, path.name


def test_tensorboard_pictures_histograms_layers_and_profile_change_no_bit() -> None:
    quiet = run("model.dropout=0.3", "log=quiet")
    words = ["log.every=1", "log.pictures=true", "log.histograms=true", "log.layer_norms=true", "trainer.profile=true"]
    loud = run("model.dropout=0.3", *words)
    assert weights(quiet) == weights(loud)
    assert not (quiet / "tensorboard").exists()
    found = told(loud)
    assert [step for step, _ in found["train loss/loss"]] == list(range(1, 15))
    assert [step for step, _ in found["train gradients/output.bias"]] == [7, 14]
    assert found["train batch"][0][0] == 0
    assert (loud / "profile" / "trace.json").exists()
