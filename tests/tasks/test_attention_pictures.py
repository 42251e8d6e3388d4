"""Attention in pictures: the maps are the network's, of the images that are shown, and looking changes nothing."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dltrain.cli import main
from dltrain.config import model as settings
from dltrain.config.model import Attention
from dltrain.models import build_model
from dltrain.models.attention import AttentionMap
from dltrain.report.heatmaps import Layer
from dltrain.tasks import Batch, Evaluation, attention
from dltrain.tasks.attention import attention_maps, recording, shown_layers
from dltrain.tasks.classification import Classification
from dltrain.tasks.kept import spread
from dltrain.tasks.regression import Regression

NAMES = ("cat", "dog", "cow")
K = len(NAMES)
SIDE = 8


class Planted(nn.Module):
    """Attends to the brightest pixels: its map is the image over its sum. Its logits are the first pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.map = AttentionMap()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.map(images / images.sum((1, 2, 3), keepdim=True))
        return images[:, 0, 0, :K] * 20


class Without(Planted):
    """The same answers, and no map."""

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images[:, 0, 0, :K] * 20

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Identity()  # type: ignore[assignment]


def make(n: int = 40, channels: int = 1, side: int = SIDE) -> Batch:
    g = torch.Generator().manual_seed(0)
    return Batch(torch.rand(n, channels, side, side, generator=g), torch.arange(n) % K, torch.arange(500, 500 + n))


def classify(network: nn.Module, channels: int = 1) -> Classification:
    return Classification(network, NAMES, mean=(0.0,) * channels, std=(1.0,) * channels)


def evaluate(task: Any, batch: Batch, portion: int = 16) -> Evaluation:
    parts = [slice(at, at + portion) for at in range(0, len(batch.ids), portion)]
    found: Evaluation = task.evaluate(batch.part(part) for part in parts)
    return found


class Drawn:
    """What was given to `heatmaps`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = attention.heatmaps
        monkeypatch.setattr(attention, "heatmaps", self)

    def __call__(self, images: Any, layers: list[Layer], captions: list[str], marks: Any, title: str) -> Any:
        self.images = [np.asarray(image) for image in images]
        self.layers, self.captions, self.marks, self.title = layers, captions, marks, title
        return self.real(images, layers, captions, marks, title)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    small: dict[str, settings.Model] = {
        "attention_cnn": settings.AttentionCNN(base_channels=1),
        "cbam": settings.CifarResNet(n=1, base_channels=4, attention=Attention.cbam),
        "spatial_softmax": settings.CifarResNet(n=2, base_channels=4, attention=Attention.spatial_softmax),
        "se": settings.CifarResNet(n=1, base_channels=4, attention=Attention.se),
        "none": settings.MLP(widths=[4]),
    }
    return build_model(small[name], (1, 32, 32), K)


@pytest.mark.parametrize("portion", [3, 16, 100])
def test_the_maps_are_those_of_the_images_that_are_shown(drawn: Drawn, portion: int) -> None:
    batch = make()
    assert batch.targets is not None
    evaluate(classify(Planted()), batch, portion).pictures["attention"]()
    rows = sorted(spread(batch.ids).argsort(descending=True)[:8].tolist())
    assert len(drawn.images) == 8
    (layer,) = drawn.layers
    for row, image, weights in zip(rows, drawn.images, layer.weights, strict=True):
        pixels = batch.images[row, 0]
        assert np.array_equal(image, (pixels * 255).round().numpy().astype(np.uint8))
        np.testing.assert_allclose(weights, (pixels / pixels.sum()).numpy(), rtol=1e-6)
    answers = batch.images[rows, 0, 0, :K].argmax(1)
    assert drawn.marks == (answers == batch.targets[rows]).tolist()
    assert [caption.partition("\t")[0] for caption in drawn.captions] == [NAMES[k] for k in answers]
    assert drawn.title == "what the network attends to in 8 of 40 images"


def test_the_images_are_among_those_with_answers() -> None:
    batch = make(200)
    by_hand = spread(batch.ids).argsort(descending=True)
    assert set(by_hand[:8].tolist()) < set(by_hand[:24].tolist())
    pictures = evaluate(classify(Planted()), batch).pictures
    assert list(pictures) == ["confusion", "worst", "predictions", "attention"]


@pytest.mark.parametrize("name", ["attention_cnn", "cbam", "spatial_softmax"])
def test_the_maps_are_those_of_a_plain_forward(name: str) -> None:
    net = network(name).eval()
    images = torch.rand(4, 1, 32, 32)
    seen: dict[str, Tensor] = {}
    for path, module in net.named_modules():
        if isinstance(module, AttentionMap):
            module.register_forward_hook(lambda _m, inputs, _o, path=path: seen.update({path: inputs[0]}))
    net(images)
    found = attention_maps(net, images)
    assert list(found) == list(seen)
    for path, weights in found.items():
        assert torch.equal(weights, seen[path][:, 0])
        if name == "cbam":
            assert 0 < weights.min() < weights.max() < 1
        else:
            torch.testing.assert_close(weights.sum((1, 2)), torch.ones(4))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("attention_cnn", [("conv7", 32), ("conv10", 16), ("conv13", 8)]),
        ("cbam", [("stages.0.0", 32), ("stages.1.0", 16), ("stages.2.0", 8)]),
        ("spatial_softmax", [("stages.0.1", 32), ("stages.1.1", 16), ("stages.2.1", 8)]),
    ],
)
def test_the_last_map_of_each_resolution_is_shown(drawn: Drawn, name: str, layers: list[tuple[str, int]]) -> None:
    evaluate(classify(network(name)), make(side=32)).pictures["attention"]()
    assert [(layer.name, layer.weights.shape) for layer in drawn.layers] == [(n, (8, s, s)) for n, s in layers]


def test_maps_of_one_position_are_left_out_and_the_deepest_of_many_stay() -> None:
    maps = {f"layer{n}.attention.map": torch.rand(2, n, n) for n in range(9, 0, -1)}
    assert [layer.name for layer in shown_layers(maps)] == [f"layer{n}" for n in range(7, 1, -1)]
    assert shown_layers({"map": torch.ones(2, 1, 1)}) == []
    assert [layer.name for layer in shown_layers({"map": torch.ones(2, 1, 2)})] == ["map"]


@pytest.mark.parametrize("name", ["se", "none"])
def test_a_network_without_maps_has_no_such_picture(name: str) -> None:
    assert list(evaluate(classify(network(name)), make(side=32)).pictures) == ["confusion", "worst", "predictions"]


def test_a_network_without_maps_is_not_run_again() -> None:
    for net, calls in ((Without(), 3), (Planted(), 4)):
        evaluate(classify(net), make())
        assert net.calls == calls


def test_a_map_that_is_one_position_large_makes_no_picture() -> None:
    batch = make(side=SIDE)
    net = Planted()
    net.map.register_forward_pre_hook(lambda _m, inputs: (inputs[0].sum((2, 3), keepdim=True),))
    assert "attention" not in evaluate(classify(net), batch).pictures


def test_metrics_are_the_same_bits_and_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    task, batch = classify(network("attention_cnn").train()), make(side=32)
    task.model.requires_grad_(True)
    next(task.model.children()).eval()  # a part that is frozen
    modes = [module.training for module in task.modules()]
    before, generator = copy.deepcopy(task.state_dict()), torch.get_rng_state()
    found = evaluate(task, batch)
    assert "attention" in found.pictures
    assert hooks(task) == 0
    assert [module.training for module in task.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(p.grad is None for p in task.parameters())
    monkeypatch.setattr(attention.Attended, "add", lambda *_: None)
    monkeypatch.setattr(attention.Attended, "pictures", lambda *_: {})
    assert evaluate(task, batch).metrics == found.metrics


def test_hooks_are_gone_after_an_error() -> None:
    net = Planted()
    with pytest.raises(RuntimeError, match="no memory"), recording(net):
        assert hooks(net) == 1
        raise RuntimeError("no memory")
    assert hooks(net) == 0
    task = classify(net.train())
    answered = net.forward

    def second(images: Tensor) -> Tensor:
        if hooks(net):
            raise RuntimeError("no memory")
        return answered(images)

    net.forward = second  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no memory"):
        evaluate(task, make())
    assert hooks(net) == 0
    assert net.training


def test_the_maps_are_of_the_weights_that_were_evaluated(drawn: Drawn) -> None:
    """A picture is drawn late, of the best epoch at the end; the weights have changed by then."""
    net = network("spatial_softmax").eval()
    task, batch = classify(net), make(side=32)
    expected = attention_maps(net, batch.images[spread(batch.ids).argsort(descending=True)[:8].sort().values])
    draw = evaluate(task, batch).pictures["attention"]
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    draw()
    np.testing.assert_allclose(drawn.layers[-1].weights, list(expected.values())[-1].numpy(), rtol=1e-5)


def test_the_bright_spot_lies_where_the_weight_is() -> None:
    """A planted pixel in each image: the picture's brightest colour is there, and nowhere else."""
    batch = make(1)
    batch.images[:] = 0.004
    batch.images[0, 0, 5, 2] = 1
    page = np.asarray(evaluate(classify(Planted()), batch).pictures["attention"]())[90:].astype(int)  # below the scale
    yellow = (page[:, :, 0] > 150) & (page[:, :, 1] > 150) & (page[:, :, 2] < 140)
    dark = (page[:, :, 0] < 40) & (page[:, :, 1] < 40) & (page[:, :, 2] > 70)  # the map's other positions
    ys, xs = np.nonzero(dark)
    top, left, cell = ys.min(), xs.min(), (xs.max() - xs.min() + 1) / SIDE
    assert cell == 16
    ys, xs = np.nonzero(yellow)
    assert (ys.min() - top, ys.max() - top) == (5 * cell, 6 * cell - 1)
    assert (xs.min() - left, xs.max() - left) == (2 * cell, 3 * cell - 1)


def test_a_regression_shows_its_values(drawn: Drawn) -> None:
    batch = make()
    batch = batch._replace(targets=torch.rand(len(batch.ids), K, dtype=torch.float64))
    names = ("x", "y", "z")
    task = Regression(Planted(), names, value_mean=(0.0,) * K, value_std=(1.0,) * K, mean=(0.0,), std=(1.0,))
    found = evaluate(task, batch)
    assert list(found.pictures) == ["scatter", "worst", "predictions", "attention"]
    found.pictures["attention"]()
    assert drawn.marks is None
    first = sorted(spread(batch.ids).argsort(descending=True)[:8].tolist())[0]
    assert batch.targets is not None
    answers = batch.images[first, 0, 0, :K] * 20
    rows = zip(names, answers.tolist(), batch.targets[first].tolist(), strict=True)
    assert drawn.captions[0].split("\n") == [f"{name} {answer:.2f} / {target:.2f}" for name, answer, target in rows]
    none = Regression(Without(), names, value_mean=(0.0,) * K, value_std=(1.0,) * K, mean=(0.0,), std=(1.0,))
    assert evaluate(none, batch).metrics == found.metrics


def test_looking_at_batches_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    looking = attention.Attended(Planted())
    for _ in range(2):
        batch = Batch(*(field.to("meta") for field in make() if field is not None))
        looking.add(batch, lambda rows, batch=batch: {"targets": batch.targets.index_select(0, rows)})


def test_a_run_writes_the_picture_and_shows_it_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["model=attention_cnn", "model.base_channels=1", "trainer.threads=1", "trainer.batch_size=500"]
    assert main([*small, "trainer.steps=2", "data.train_per_class=50", "precision=fp32", "output=run"]) == 0
    assert Path("run/pictures/attention.png").is_file()
    reader = EventAccumulator("run/tensorboard/test")
    reader.Reload()
    assert "attention" in reader.Tags()["images"]
    assert main(["mode=eval", "run=run", "output=again"]) == 0
    first, again = Path("run/pictures/attention.png"), Path("again/pictures/attention.png")
    assert first.read_bytes() == again.read_bytes()
