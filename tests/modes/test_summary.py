"""mode=summary and the table of layers: against counts by hand, closed forms and torchvision; no fetching."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dltrain import data
from dltrain.cli import main
from dltrain.config import table
from dltrain.config.compose import compose
from dltrain.data.mnist import FASHION_MNIST, MNIST
from dltrain.models import build_model, outline
from dltrain.models.outputs import Outputs
from dltrain.modes import summary_layers as layers
from dltrain.modes.summary_layers import Summary, summarize
from dltrain.report.table import folded, memory, short
from dltrain.report.terminal import width
from dltrain.run import Run
from tests.models.family import NAMES, every_member, settings

FLOAT = 4  # bytes


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(*words: str, shape: tuple[int, int, int] = (1, 32, 32), classes: int = 10) -> nn.Module:
    return build_model(compose(list(words))[0].model, shape, classes)


def check_sums(found: Summary, model: nn.Module) -> None:
    """Nothing is lost and nothing doubled: the columns add up to what the whole network has."""
    assert sum(layer.parameters for layer in found.layers) == found.parameters
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert sum(layer.multiply_adds for layer in found.layers) == found.multiply_adds
    assert sum(layer.kept_bytes for layer in found.layers) == found.kept_bytes


# ---- counts


def test_lenet5_is_counted_as_by_hand() -> None:
    """LeCun 1998 with a full third layer: (out positions) x (out channels) x (inputs of one) for each layer."""
    model = network("model=lenet5")
    found = summarize(model, (1, 32, 32))
    by_hand = {
        "c1.conv": (6 * (25 + 1), 28 * 28 * 6 * 25, (6, 28, 28)),
        "c3.conv": (16 * (6 * 25 + 1), 10 * 10 * 16 * 6 * 25, (16, 10, 10)),
        "c5.linear": (120 * (400 + 1), 120 * 400, (120,)),
        "f6.linear": (84 * (120 + 1), 84 * 120, (84,)),
        "output": (10 * (84 + 1), 10 * 84, (10,)),
    }
    assert found.parameters == 61_706
    assert found.multiply_adds == 117_600 + 240_000 + 48_000 + 10_080 + 840
    for layer in found.layers:
        expected = by_hand.pop(layer.name, (0, 0, layer.output))
        assert (layer.parameters, layer.multiply_adds, layer.output) == expected
    assert by_hand == {}
    assert {layer.name: layer.output for layer in found.layers if layer.name in ("s2", "s4")} == {
        "s2": (6, 14, 14),
        "s4": (16, 5, 5),
    }
    check_sums(found, model)


@pytest.mark.parametrize("widths", [[], [7], [300, 100], [5, 6, 7]])
@pytest.mark.parametrize("batch", [2, 64])
def test_mlp_follows_its_closed_form(widths: list[int], batch: int) -> None:
    """Parameters sum n (m + 1), multiply-adds sum n m; kept: the images and each ReLU's output, once."""
    model = network("model=mlp", f"model.widths={widths}", shape=(3, 8, 8))
    found = summarize(model, (3, 8, 8), batch)
    sizes = [3 * 8 * 8, *widths, 10]
    assert found.parameters == sum(m * (n + 1) for n, m in pairwise(sizes))
    assert found.multiply_adds == sum(n * m for n, m in pairwise(sizes))
    assert found.kept_bytes == batch * FLOAT * sum(sizes[:-1])
    assert found.parameter_bytes == FLOAT * found.parameters
    check_sums(found, model)


def test_resnet18_has_the_published_figures() -> None:
    """torchvision: 11,689,512 parameters and 1.814 billion multiply-adds at 224 x 224."""
    model = torchvision.models.resnet18()
    found = summarize(model, (3, 224, 224))
    assert found.parameters == 11_689_512
    assert found.multiply_adds == 1_814_073_344
    check_sums(found, model)
    assert found.device == "meta"
    relu = next(layer for layer in found.layers if layer.name == "layer1.0.relu")
    assert relu.calls == 2
    assert sum(layer.calls for layer in found.layers if layer.kind == "Conv2d") == 20


@pytest.mark.parametrize("name", ["vit_b_16", "mobilenet_v3_small", "efficientnet_b0", "densenet121"])
def test_sums_hold_for_networks_of_many_kinds(name: str) -> None:
    """Attention by functions, parameters of no leaf (class token, layer scale), blocks that concatenate."""
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    published = {
        "vit_b_16": 86_567_656,
        "mobilenet_v3_small": 2_542_856,
        "efficientnet_b0": 5_288_548,
        "densenet121": 7_978_856,
    }
    found = summarize(model, (3, 224, 224))
    assert found.parameters == published[name]
    check_sums(found, model)


def test_vit_counts_its_attention() -> None:
    """12 blocks: 4 d^2 + 8 d^2 a token of the projections, and 2 n d a token of the two products of attention."""
    with torch.device("meta"):
        model = torchvision.models.vit_b_16()
    found = summarize(model, (3, 224, 224))
    n, d = 197, 768
    blocks = 12 * (12 * n * d * d + 2 * n * n * d)
    assert found.multiply_adds == 196 * d * 3 * 16 * 16 + blocks + d * 1000


class Odd(nn.Module):
    """All that breaks a count: a shared layer called twice, work and parameters of its own, a tied and an idle part."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4, bias=False)
        self.again = self.shared
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.shared.weight
        self.own = nn.Parameter(torch.ones(4, 5))
        self.fixed = nn.Parameter(torch.ones(3), requires_grad=False)
        self.idle = nn.Linear(2, 2)
        self.nothing = nn.Identity()
        self.register_buffer("count", torch.zeros(7))

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        x = self.nothing(images.flatten(1))
        x = self.tied(self.again(self.shared(x)))
        return {"out": [F.relu(x @ self.own)]}


def test_what_is_shared_tied_idle_or_of_no_leaf_is_counted_once() -> None:
    model = Odd()
    found = summarize(model, (1, 2, 2), 4)
    named = {layer.name: layer for layer in found.layers}
    assert set(named) == {"", "shared", "tied", "idle"}
    assert (named["shared"].calls, named["shared"].parameters, named["shared"].multiply_adds) == (2, 16, 2 * 16)
    assert (named["tied"].parameters, named["tied"].multiply_adds) == (4, 16)  # its weight belongs to `shared`
    assert (named[""].parameters, named[""].multiply_adds, named[""].output) == (20 + 3, 20, (5,))
    assert (named["idle"].calls, named["idle"].parameters, named["idle"].output) == (0, 6, None)
    assert found.parameters - found.trained == 3
    assert found.multiply_adds == 68
    check_sums(found, model)
    text = "\n".join(layers.table(found))
    assert "Linear x2" in text
    assert "Linear (not used)" in text
    assert "3 of them fixed" in text


def test_a_single_layer_is_a_network() -> None:
    model = nn.Conv2d(1, 2, 3)
    found = summarize(model, (1, 5, 5))
    assert [(layer.name, layer.output, layer.multiply_adds) for layer in found.layers] == [("", (2, 3, 3), 162)]
    assert "(network)" in layers.table(found)[1]


def test_what_training_keeps_is_measured_and_not_guessed() -> None:
    """Against the bytes that autograd really holds: a forward pass on the CPU, its graph walked by hand."""
    model = network("model=lenet5", "model.norm=batch", "model.dropout=0.3")
    found = summarize(model, (1, 32, 32), 8)
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(torch.zeros(8, 1, 32, 32))
    mine = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    expected = sum(size for address, size in held.items() if address not in mine)
    assert output.shape == (8, 10)
    assert found.kept_bytes == pytest.approx(expected, rel=0.02)
    assert found.kept_bytes > summarize(model, (1, 32, 32), 4).kept_bytes * 1.9


# ---- leaves no trace


def test_neither_the_model_nor_a_generator_is_changed() -> None:
    model = network("model=lenet5", "model.norm=batch", "model.dropout=0.5").eval()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.default_generator.get_state()
    summarize(model, (1, 32, 32))
    assert torch.equal(torch.default_generator.get_state(), state)
    assert not any(m.training for m in model.modules())
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.is_meta for parameter in model.parameters())


class Looks(nn.Module):
    """A network that asks for a number, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return self.dropout(self.layer(x)) if float(x.sum()) < 1 else x


def test_a_network_that_asks_for_numbers_is_run_on_the_cpu() -> None:
    model, state = Looks(), torch.default_generator.get_state()
    found = summarize(model, (1, 2, 2), 64)
    assert (found.device, found.batch, found.multiply_adds) == ("cpu", 2, 16)
    assert torch.equal(torch.default_generator.get_state(), state)
    check_sums(found, model)


class Broken(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_a_network_that_cannot_be_run_raises() -> None:
    with pytest.raises(RuntimeError, match="no"):
        summarize(Broken(), (1, 2, 2))
    with pytest.raises(ValueError, match="batch of 1"):
        summarize(nn.Linear(2, 2), (1, 1, 2), 1)


# ---- as text


@pytest.mark.parametrize("room", [40, 60, 80, 120])
def test_the_table_fits(room: int) -> None:
    for model, shape in ((torchvision.models.resnet18(), (3, 224, 224)), (network("model=lenet5"), (1, 32, 32))):
        found = summarize(model, shape)
        lines = layers.table(found, room)
        assert max(map(width, lines)) <= room
        text = "\n".join(lines)
        for layer in found.layers:
            assert f"{layer.name} " in text
        assert f"{found.parameters:,}" in text
        assert f"{found.multiply_adds:,} an image" in text
    a_line_each = len(found.layers) + 2 + 5  # head, sum, and what is below
    assert (len(lines) == a_line_each) == (room >= 80)


def test_numbers_in_few_letters() -> None:
    assert [short(n) for n in (0, 999, 1000, 61_706, 999_499, 999_500, 1_814_073_344, 10**15)] == [
        *("0", "999", "1 k", "61.7 k", "999 k", "1 M", "1.81 G", "1,000 T")
    ]
    assert [memory(n) for n in (0, 1, 1023, 1024, 102_400, 1_048_524, 1_048_576, 3 * 2**30, 2**60)] == [
        *("0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "100 KiB", "1.0 MiB", "1.0 MiB", "3.0 GiB", "1,048,576 TiB")
    ]


def test_text_is_folded_at_words() -> None:
    assert folded("  one two three", 9) == ["  one two", "  three"]
    assert folded("one two", None) == ["one two"]
    assert folded("a/long/path/of/a/run", 9) == ["a/long/path/of/a/run"]


# ---- the mode


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["mode=summary", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def check_summary(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    model = settings(*words)
    of, size, outputs = ("digit_scenes", (64, 64), 11) if model.task == "segmentation" else ("digits", (28, 28), 10)
    text = said(capsys, *words, f"data={of}")
    built = outline(model, (1, *model.size_for(size)), outputs)
    assert f"\n{model.title} for {of}: {'windows' if of == 'digit_scenes' else 'images'} of 1x" in text
    assert f"{sum(p.numel() for p in built.parameters()):,}" in text
    assert "on the CPU" not in text
    assert all(note in " ".join(text.split()) for note in model.notes(model.size_for(size)))
    assert not list(Path().iterdir())


@every_member
def test_every_family_has_a_summary(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    check_summary(words, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_summary(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_summary((f"model={name}",), capsys)


def test_both_networks_of_a_dcgan_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    """By closed form: 4x4 kernels at the positions of the smaller map, the projection, the last layer."""
    text = said(capsys, "model=dcgan", "data=cifar10", "data.size=64x64")
    assert "dcgan for cifar10: images of 3x64x64 from 100 numbers" in text
    assert f"{12_658_432 + 11_036_160:,} parameters in two networks" in " ".join(text.split())
    made, told = text.split("\ngenerator\n")[1].split("\ndiscriminator\n")
    doubled = [(1024, 512, 4), (512, 256, 8), (256, 128, 16), (128, 3, 32)]
    convolutions = sum(16 * a * b * side**2 for a, b, side in doubled)
    for part, parameters, linear, shape in (
        (made, 12_658_432, 100 * 16_384, "100 numbers"),
        (told, 11_036_160, 16_384, "3x64x64 (channels x height x width)"),
    ):
        assert f"{parameters:,}" in part
        assert f"{convolutions + linear:,} an image" in part
        assert f"input          {shape}" in part
    assert "1024x4x4" in made
    assert "3x64x64" in made


def test_a_network_at_the_size_of_its_paper_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a set that is not there; torchvision's figures of ResNet-18, with 10 classes and not 1,000."""
    text = said(capsys, "model=resnet18", "data=cifar10", "data.size=224x224")
    assert f"{11_689_512 - 990 * 513:,}" in text
    assert f"{1_814_073_344 - 990 * 512:,} an image" in text
    assert "small images" not in text
    assert "small images: 3x3 first convolution" in said(capsys, "model=resnet18", "data=cifar10")


def test_a_network_that_no_memory_holds_is_summed_up_without(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "model=resnet18", "model.base_channels=4096", "model.blocks=[1,1,1,1,1]")
    assert "80,162,992,138; 299 GiB" in text


class WithAHead(nn.Module):
    """10 x 10 weights that it always uses, and 10 x 20 of a head while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(10, 10, bias=False)
        self.head = nn.Linear(10, 20, bias=False)

    def forward(self, images: Tensor) -> Tensor | Outputs:
        x = self.trunk(images.flatten(1))
        return Outputs(x, (self.head(x),), 0.3) if self.training else x


def test_what_is_there_for_training_only_is_told_and_has_no_multiply_adds() -> None:
    found = summarize(WithAHead(), (1, 2, 5), 4)
    assert (found.parameters, found.training_only, found.multiply_adds) == (300, 200, 100)
    named = {layer.name: layer for layer in found.layers}
    assert (named["head"].calls, named["head"].evaluated, named["head"].multiply_adds) == (1, False, 0)
    assert named["head"].output == (20,)
    assert found.kept_bytes == FLOAT * 4 * (10 + 10)  # the inputs of both, for the backward pass
    check_sums(found, WithAHead())
    text = "\n".join(layers.table(found))
    assert "Linear (training)" in text
    assert "training only  200 of the parameters; the activations count them, the multiply-adds do not" in text
    assert "training only" not in "\n".join(layers.table(summarize(nn.Linear(2, 2), (1, 1, 2))))


def test_inception_is_counted_as_torchvisions_googlenet_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Parameters with and without auxiliary heads; multiply-adds without: 1,498,442,848 by torch's own counter."""
    with torch.device("meta"):
        theirs = torchvision.models.googlenet(init_weights=False, aux_logits=True).eval()
        with FlopCounterMode(display=False) as counter:
            theirs(torch.zeros(1, 3, 224, 224))
    found = summarize(outline(settings("model=inception_v1"), (3, 224, 224), 1000), (3, 224, 224))
    assert (found.parameters, found.parameters - found.training_only) == (13_004_888, 6_624_904)
    assert found.multiply_adds == counter.get_total_flops() // 2


@pytest.mark.parametrize("name", [n for n in table.options("data") if table.schema("data", n).class_count is not None])
def test_sets_that_are_not_there_are_known_by_their_settings(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is fetched, looked for or made; the network guard of the tests watches too."""
    monkeypatch.setenv("DLTRAIN_DATA", str(tmp_path / "nowhere"))
    settings: Any = table.schema("data", name)
    channels, height, wide = settings.native
    text = said(capsys, "model=mlp", f"data={name}")
    assert f"images of {channels}x{height}x{wide}, {settings.class_count} classes" in text
    assert f"{channels * height * wide * 300 + 300:,}" in text
    assert "images of 1x32x32" in said(capsys, f"data={name}") if channels == 1 else True
    assert f"images of {channels}x20x24" in said(capsys, "model=mlp", f"data={name}", "data.size=20x24")
    assert not list(tmp_path.iterdir())


def test_what_the_settings_say_is_what_is_there() -> None:
    assert table.schema("data", "mnist").class_count == len(MNIST.class_names)
    assert table.schema("data", "fashion_mnist").class_count == len(FASHION_MNIST.class_names)
    kept = compose(["data=mnist", "data.classes=[a,b,c]"])[0]
    known = data.known(kept)
    assert known is not None
    assert known.num_outputs == 3
    assert data.known(compose(["data=digits"])[0]) is None


def test_a_runs_network_is_summed_up_without_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for index in range(9):
            Image.new("RGB", (12, 10), (index * 9, 0, 90 if name == "cat" else 10)).save(f"photos/{name}/{index}.png")
    words = ["data=folder", "data.root=photos", "data.size=10x12", "model=mlp", "model.widths=[5]"]
    before = said(capsys, *words, "trainer.batch_size=4")
    assert (
        main([*words, "log=quiet", "trainer.steps=1", "trainer.batch_size=4", "trainer.threads=1", "output=run"]) == 0
    )
    parameters = Run(Path("run")).results()["parameters"]
    shutil.rmtree("photos")
    made = sorted(Path().rglob("*"))
    capsys.readouterr()
    text = said(capsys, "run=run")
    assert "mlp for folder: images of 3x10x12, 2 classes   run run" in text
    assert text.splitlines()[2:] == before.splitlines()[2:]
    assert f"{parameters:,}" in text
    assert "for 4 images" in text
    assert main(["mode=summary", "run=run", "output=x"]) == 2
    assert "mode=summary prints, and makes no files" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == made


def test_the_batch_is_what_is_computed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert "for 64 images" in said(capsys)
    assert "for 8 images" in said(capsys, "trainer.micro_batch_size=8")
    assert "for 2 images" in said(capsys, "trainer.batch_size=1", "model.norm=batch")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run=nowhere"], "run=nowhere is not there"),
        (["input=x"], "mode=summary has no key input"),
        (["data=folder"], "data=folder needs the folder"),
        (["output=x"], "output has no say in mode=summary"),
        (["model=mlp", "data=mnist", "data.size=0"], "data.size"),
        (["data=mnist", "data.mean=[0.1,0.2]"], "data.mean"),
        (["-m", "model=mlp,lenet5"], "makes no runs"),
    ],
)
def test_mistakes(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mode=summary", *words]) == 2
    assert part in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_unet_is_counted_as_by_hand_at_its_window(capsys: pytest.CaptureFixture[str]) -> None:
    """Ronneberger 2015 for 1 -> 11: by level two 3x3 convolutions on either side, and 2x2 up-convolutions."""
    assert main(["mode=summary", "model=unet", "model.norm=none", "data=digit_scenes"]) == 0
    said = capsys.readouterr().out
    assert "windows of 1x64x64, 11 classes" in said
    parameters = work = 0
    channels = [64, 128, 256, 512, 1024]
    convs = [(9, c, n) for c, n in zip([1, *channels], channels, strict=False)] + [(9, n, n) for n in channels]
    places = [(64 >> level) ** 2 for level in range(5)] * 2
    for level in range(4):
        wide = channels[level]
        convs += [(9, 2 * wide, wide), (9, wide, wide), (4, 2 * wide, wide)]
        places += [(64 >> level) ** 2] * 2 + [(64 >> level + 1) ** 2]  # an input of the last gives four outputs
    for (kernel, inputs, outputs), place in zip([*convs, (1, 64, 11)], [*places, 64 * 64], strict=True):
        parameters += (kernel * inputs + 1) * outputs
        work += kernel * inputs * outputs * place
    assert f"parameters     {parameters:,}; " in said
    assert f"multiply-adds  {work:,} an image" in said
    assert parameters == 31_030_658 + 9 * 65  # the paper's network has two classes
