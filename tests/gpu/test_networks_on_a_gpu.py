"""Every network's update in 16 bits on a GPU: exact operations alone, the same bits twice, and no waiting for it.

The same is done on the CPU for some, so that what needs a GPU has run before it meets one.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cli.py does; cuBLAS reads it once

import pytest
import torch
from torch import Tensor

from dltrain import environment
from dltrain.config import table
from dltrain.config.compose import compose
from dltrain.config.spec import IGNORED, DataSpec, Target
from dltrain.engine.random import Position
from dltrain.engine.step import apply_update
from dltrain.modes.train import build
from dltrain.report.terminal import Screen
from dltrain.tasks import Batch
from tests.engine.reading import NoReading
from tests.models.family import answers_per_pixel, generates

ROWS, CLASSES = 4, 5
SMALL, LARGE = (32, 32), (70, 90)  # above 64 pixels the stems and heads for photographs; no multiple of their poolings
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
both_precisions = pytest.mark.parametrize("precision", ["bf16", "fp16"])

# one narrow or shallow member of each family, in each form that computes otherwise
CASES = [
    ("mlp", SMALL),
    ("lenet5", SMALL),
    ("lenet5_caffe", (28, 28)),
    ("alexnet", SMALL),
    ("alexnet", LARGE),
    ("alexnet model.form=paper", LARGE),
    ("vgg11 model.base_channels=8", SMALL),
    ("vgg11 model.base_channels=8", LARGE),
    ("vgg11 model.base_channels=8 model.norm=batch model.attention=cbam", SMALL),
    ("inception_v1", SMALL),
    ("inception_v1", LARGE),
    ("inception_v1 model.form=paper", LARGE),
    ("resnet18 model.base_channels=8", SMALL),
    ("resnet18 model.base_channels=8", LARGE),
    ("resnet50 model.base_channels=8 model.blocks=[1,1,1,1] model.attention=se", LARGE),
    ("resnet20 model.n=1", SMALL),
    ("resnet20 model.n=1 model.shortcut=B", SMALL),
    ("resnet20 model.n=1 model.residual=false model.norm=none", SMALL),
    ("resnet20 model.n=1 model.attention=se", SMALL),
    ("resnet20 model.n=1 model.attention=cbam", SMALL),
    ("resnet20 model.n=1 model.attention=spatial_softmax", SMALL),
    ("attention_cnn model.base_channels=4", SMALL),
    ("attention_cnn model.base_channels=4 model.compatibility=dot", (48, 64)),
    ("unet model.depth=3 model.base_channels=8", SMALL),
    ("unet model.depth=3 model.base_channels=8 model.up=nearest model.norm=none task.loss=both", (32, 48)),
    ("unet model.depth=3 model.base_channels=8 model.padding=valid", (60, 68)),
    ("unet model.depth=3 model.base_channels=8 model.skips=false", SMALL),
    ("unet_resnet18 model.base_channels=8", SMALL),
    ("unet_resnet18 model.base_channels=8 model.up=nearest", (96, 128)),
    ("dcgan model.base_channels=8", SMALL),
    (
        "dcgan model.base_channels=8 model.up=resize model.discriminator_norm=spectral task.loss=hinge "
        "task.r1=1 task.r1_every=1",
        (28, 28),
    ),
    (
        "dcgan model.base_channels=8 model.up=pixelshuffle model.norm=none model.discriminator_norm=none "
        "task.loss=wgan_gp",
        (64, 64),
    ),
]
ON_THE_CPU = [case for case in CASES if case[0].startswith(("lenet5", "resnet20", "attention_cnn", "unet", "dcgan"))]


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Inside, nothing may wait for the device; on the CPU, nothing may ask a tensor for its value."""
    if device.type == "cpu":
        with NoReading():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def updated(text: str, size: tuple[int, int], precision: str, device: str, *words: str) -> dict[str, Tensor]:
    """Weights and statistics after two steps, the second without waiting, and the losses of all updates."""
    name, *more = text.split()
    scale = ["precision.init_scale=64"] if precision == "fp16" else []  # the first steps are to move the weights
    masks = answers_per_pixel(name)
    more += ["data=digit_scenes"] if masks else ["task.judge=none", "task.samples=2"] if generates(name) else []
    cfg, _ = compose([f"model={name}", *more, f"precision={precision}", *scale, f"device={device}", *words])
    channels = 1 if name.startswith(("mlp", "lenet")) else 3
    spec = DataSpec(
        "noise",
        (channels, *size),
        Target.mask if masks else Target.classes,
        tuple("abcde"),
        {},
        (0.0,) * channels,
        (1.0,) * channels,
        ignore_index=IGNORED if masks else None,
    )
    env = environment.resolve(cfg, spec, None)
    environment.apply(env)
    assert torch.are_deterministic_algorithms_enabled()
    data: Any = SimpleNamespace(targets=lambda split: None)
    state, turns = build(cfg, spec, data, env, Screen(out=io.StringIO()))
    before = {key: value.clone() for key, value in state.task.state_dict().items()}
    images = torch.randn(ROWS, channels, *size, generator=torch.Generator().manual_seed(1)).to(env.device)
    targets = torch.arange(ROWS, device=env.device) % CLASSES
    if masks:  # the last image has no mask
        targets = torch.where(targets < ROWS - 1, targets, IGNORED).to(torch.uint8)[:, None, None].repeat(1, *size)
    batch = Batch(images.contiguous(memory_format=env.memory_format), targets, torch.arange(ROWS, device=env.device))
    losses = []
    for step in range(2):
        with no_waiting(env.device) if step else nullcontext():
            losses += [apply_update(cfg, turn, batch, Position(step=step), 1e-3)["loss"] for turn in turns]
    after = state.task.state_dict()
    moved = {id(value) for turn in turns for _, value in turn.named_params if value.ndim > 1}
    weights = {key for key, value in state.task.named_parameters() if id(value) in moved}
    assert len(weights) == len(moved) > 0
    still = [key for key in weights if torch.equal(after[key], before[key])]
    assert still == []
    assert all(value.isfinite().all() for value in [*after.values(), *losses])
    return {key: value.cpu() for key, value in after.items()} | {"losses": torch.stack(losses).cpu()}


def assert_same_bits_twice(text: str, size: tuple[int, int], precision: str, device: str, *words: str) -> None:
    first, second = (updated(text, size, precision, device, *words) for _ in range(2))
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


@pytest.mark.parametrize(("text", "size"), ON_THE_CPU)
@both_precisions
def test_the_same_on_the_cpu(text: str, size: tuple[int, int], precision: str) -> None:
    assert_same_bits_twice(text, size, precision, "cpu")


def test_other_weights_would_be_noticed() -> None:
    """The control: another seed gives other bits."""
    first, second = (updated("lenet5", SMALL, "bf16", "cpu", f"seed={seed}") for seed in (0, 1))
    assert not torch.equal(first["losses"], second["losses"])


def test_every_family_is_among_the_cases() -> None:
    families = {table.schema("model", name) for name in table.options("model")}
    assert {table.schema("model", text.split()[0]) for text, _ in CASES} == families


@pytest.mark.cuda
@on_a_gpu
@pytest.mark.parametrize(("text", "size"), CASES)
@both_precisions
def test_an_update_is_exact_and_does_not_wait(text: str, size: tuple[int, int], precision: str) -> None:
    assert_same_bits_twice(text, size, precision, "cuda")


@pytest.mark.cuda
@on_a_gpu
@pytest.mark.parametrize(("text", "size"), CASES)
def test_the_first_loss_is_that_of_the_cpu(text: str, size: tuple[int, int]) -> None:
    """In float32, and without dropout, which draws otherwise on another device."""
    without = [] if generates(text.split()[0]) else ["model.dropout=0"]
    there, here = (updated(text, size, "fp32", device, *without)["losses"][0] for device in ("cuda", "cpu"))
    assert there.item() == pytest.approx(here.item(), rel=1e-3)


@pytest.mark.cuda
@pytest.mark.slow
@on_a_gpu
@pytest.mark.parametrize("name", table.options("model"))
@both_precisions
def test_every_name_is_exact_at_its_papers_input(name: str, precision: str) -> None:
    grey_or_small = (
        name.startswith(("mlp", "lenet", "attention_cnn")) or "Cifar" in table.schema("model", name).__name__
    )
    size = (64, 64) if generates(name) else SMALL if grey_or_small else (224, 224)
    assert_same_bits_twice(name, size, precision, "cuda")


@pytest.mark.cuda
@pytest.mark.slow
@on_a_gpu
@pytest.mark.parametrize(
    ("text", "size"),
    [("resnet18", SMALL), ("vgg11 model.norm=batch", LARGE), ("inception_v1", LARGE), ("dcgan", (64, 64))],
)
@both_precisions
def test_compiled_networks_are_exact(text: str, size: tuple[int, int], precision: str) -> None:
    assert_same_bits_twice(text, size, precision, "cuda", "trainer.compile=true")
