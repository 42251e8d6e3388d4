"""Answers in tiles are those to the whole image, to the last bit where nothing is rounded; memory is that of a tile."""

import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.config.sides import Sides
from dltrain.data.joint import mirror
from dltrain.models import build_model
from dltrain.tasks import tiles
from dltrain.tasks.tiles import cuts, in_parts


class Looks(nn.Module):
    """Convolutions and one pooling with the same maximum for its four pixels: stride 2, and a margin that is known."""

    def __init__(self, padded: bool) -> None:
        super().__init__()
        pad = 2 if padded else 0
        self.near = nn.Conv2d(1, 3, 5, padding=pad)
        self.far = nn.Conv2d(3, 2, 5, padding=pad)
        margin = 6  # 2, twice 2, and the other pixel of a pooled pair, as a multiple of the stride
        self.sides = Sides(stride=2, offset=0, margin=margin, lost=0 if padded else margin)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(self.near(x), 2)
        return self.far(pooled).repeat_interleave(2, 2).repeat_interleave(2, 3)


def whole_numbers(model: nn.Module, seed: int = 0) -> nn.Module:
    """The network with weights -1, 0 and 1 in float64: sums of whole numbers are exact in any order."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in model.double().eval().parameters():
            param.copy_(torch.randint(-1, 2, param.shape, generator=g))
    return model


def unet(**kwargs: Any) -> nn.Module:
    norm = kwargs.pop("norm", settings.Norm.none)
    return build_model(settings.UNet(base_channels=2, norm=norm, **kwargs), (1, 64, 64), 3)


def unet_resnet(stem: settings.Scale, up: settings.Up) -> nn.Module:
    cfg = settings.UNetResNet(blocks=[1, 1], base_channels=2, stem=stem, up=up, norm=settings.Norm.none)
    return build_model(cfg, (1, 64, 64), 3)


def picture(height: int, width: int, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 4, (2, 1, height, width), generator=g).double()


def put_together(model: nn.Module, images: Tensor, tile: int | None) -> Tensor:
    """What the parts make, each pixel of which is answered once."""
    found, times = None, torch.zeros(images.shape[2:], dtype=torch.int64)
    with torch.inference_mode():
        for rows, columns, logits in in_parts(model, images, tile):
            if found is None:
                found = logits.new_full((len(images), logits.shape[1], *images.shape[2:]), torch.nan)
            found[:, :, rows, columns] = logits
            times[rows, columns] += 1
    assert found is not None
    assert bool((times == 1).all())
    return found


def at_once(model: Any, images: Tensor) -> Tensor:
    """The answer to the whole image, mirrored by NumPy and padded as the network needs it."""
    sides = []
    for size in images.shape[2:]:
        stride, offset, lost = model.sides.stride, model.sides.offset, model.sides.lost
        least = size + 2 * lost
        full = next(s for s in range(least, least + 2 * stride) if (s - offset) % stride == 0)
        sides.append((lost, full - size - lost))
    padded = torch.from_numpy(np.pad(images.numpy(), [(0, 0), (0, 0), *sides], mode="reflect"))
    with torch.inference_mode():
        answer: Tensor = model(padded)
    assert answer.abs().max() < 2**53
    return answer[:, :, : images.shape[2], : images.shape[3]]


NETWORKS = {
    "convolutions, padded": lambda: Looks(True),
    "convolutions, not padded": lambda: Looks(False),
    **{
        f"unet {padding} {up} {depth}": lambda padding=padding, up=up, depth=depth: unet(
            padding=padding, up=up, depth=depth
        )
        for padding in settings.Padding
        for up in settings.Up
        for depth in (2, 3)
    },
    "unet without skips": lambda: unet(depth=3, skips=False),
    **{
        f"unet_resnet {stem} {up}": lambda stem=stem, up=up: unet_resnet(stem, up)
        for stem in (settings.Scale.small, settings.Scale.large)
        for up in settings.Up
    },
}


@pytest.mark.parametrize("size", [(1, 1), (5, 131), (131, 143)])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_equal_the_whole_image(name: str, size: tuple[int, int]) -> None:
    """Exactly, borders included; with the smallest tiles, of which there are many, of a narrow image."""
    model = whole_numbers(NETWORKS[name]())
    images = picture(*size)
    least = model.sides.least
    expected = at_once(model, images) if min(size) > 1 else None
    for tile in (least, least + 21) if min(size) < 100 else (least + 21,):
        found = put_together(model, images, tile)
        if expected is not None:
            assert torch.equal(found, expected)
            assert expected.std() > 0
        else:  # NumPy mirrors a single pixel as a constant, too
            assert found.isfinite().all()


def test_a_margin_that_is_too_small_would_be_seen() -> None:
    """The control: with less overlap than the network needs, tiles have seams."""
    model: Any = whole_numbers(NETWORKS["unet same transpose 3"]())
    images = picture(200, 143)
    model.sides = replace(model.sides, margin=model.sides.margin - 2 * model.sides.stride)
    assert not torch.equal(put_together(model, images, model.sides.least + 8), at_once(model, images))


def test_batch_norm_and_float32_agree_up_to_rounding() -> None:
    torch.manual_seed(0)
    model = unet(depth=3, norm=settings.Norm.batch)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    images = torch.randn(1, 1, 200, 143, generator=torch.Generator().manual_seed(0))
    whole = put_together(model.eval(), images, None)
    torch.testing.assert_close(put_together(model, images, 104), whole, rtol=1e-4, atol=1e-4)
    model.double()
    difference = put_together(model, images.double(), 104) - put_together(model, images.double(), None)
    assert difference.abs().max() < 1e-12


def test_the_papers_network_has_its_figures() -> None:
    """572 in and 388 out; tiles of 388 a side would lie askew of the poolings, so 384 of each are kept."""
    cfg = settings.UNet(padding=settings.Padding.valid)
    sides = Sides(cfg.stride, cfg.offset, cfg.margin, cfg.lost)
    assert sides == Sides(16, 12, 92, 92)
    parts = cuts(1000, 572, sides)
    assert [(cut.start, cut.side, cut.first, cut.end) for cut in parts] == [
        (-92, 572, 0, 384),
        (292, 572, 384, 768),
        (676, 572, 768, 1000),
    ]


@pytest.mark.parametrize("size", [(64, 64), (128, 160)])
@pytest.mark.parametrize("name", ["unet", "unet_resnet18"])
def test_settings_say_of_sides_what_the_network_says(name: str, size: tuple[int, int]) -> None:
    """So that a tile that is too small is told before torch is there."""
    cfg = compose([f"model={name}", "data=digit_scenes", "model.base_channels=2"])[0].model
    assert cfg.geometry(size) == build_model(cfg, (1, *size), 2).sides


@pytest.mark.parametrize(("name", "tile"), [("unet", 512), ("unet_resnet18", 992), ("unet_resnet34", 1504)])
def test_tiles_are_as_large_as_the_help_says(name: str, tile: int) -> None:
    cfg = compose([f"model={name}", "data=digit_scenes"])[0]
    assert cfg.model.geometry((256, 256)).tile == tile
    (knob,) = [f for f in fields(cfg.task) if f.name == "tile"]
    assert ("512" if name == "unet" else f"{name}: {tile}") in knob.metadata["help"]


@pytest.mark.parametrize("lost", [0, 20])
@pytest.mark.parametrize("stride", [1, 4, 16])
def test_cuts_cover_a_side_once_with_all_that_each_needs(stride: int, lost: int) -> None:
    sides = Sides(stride, 3 % stride if lost else 0, 20, lost)
    for size in range(1, 300, 7):
        for tile in (None, sides.least, sides.least + 1, 200):
            parts = cuts(size, tile, sides)
            assert parts[0].first == 0
            assert parts[-1].end == size
            assert all(a.end == b.first for a, b in pairwise(parts))
            for cut in parts:
                assert (cut.side - sides.offset) % stride == 0
                assert tile is None or cut.side <= tile or len(parts) == 1
                assert (cut.start + lost) % stride == 0
                last = sides.up(size + 2 * lost) - lost  # where the whole image would end
                if lost:
                    assert cut.start + lost <= cut.first
                    assert cut.end <= cut.start + cut.side - lost
                else:
                    assert cut.start == 0 or cut.start + sides.margin <= cut.first
                    assert cut.start + cut.side == last or cut.end <= cut.start + cut.side - sides.margin


def test_tiles_too_small_for_the_network_are_refused() -> None:
    model = unet(depth=3)
    least = model.sides.least
    with pytest.raises(ValueError, match=f"needs {least}"):
        next(iter(in_parts(model, torch.zeros(1, 1, 500, 500), least - 1)))


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_mirroring_is_numpys_however_far(size: int) -> None:
    (at,) = mirror(torch.arange(-35, 40)[None], torch.tensor([size]))
    assert at.tolist() == np.pad(np.arange(size), (35, 40 - size), mode="reflect").tolist()


def test_images_up_to_1024_go_whole_and_larger_ones_in_tiles_of_512(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def look(model: nn.Module, size: tuple[int, int], tile: int | None = None) -> list[tuple[int, int]]:
        seen.clear()
        handle = model.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
        for _ in in_parts(model, torch.zeros(1, 1, *size), tile):
            pass
        handle.remove()
        return list(seen)

    model = Looks(True)
    with torch.inference_mode():
        assert look(model, (1024, 1001)) == [(1024, 1002)]
        assert set(look(model, (1025, 40))) == {(512, 40)}
        assert look(model, (200, 100), 200) == [(200, 100)]
        assert set(look(model, (201, 100), 200)) == {(200, 100)}
        model.sides = replace(
            model.sides, margin=160
        )  # tiles of 512 would answer less than a quarter of what they compute
        assert model.sides.tile == 640
        assert look(model, (1024, 1001)) == [(1024, 1002)]
        model.sides = replace(model.sides, margin=500)
        assert look(model, (1386, 1386)) == [(1386, 1386)]
        assert set(look(model, (1387, 1386))) == {(1386, 1386)}


def test_channels_last_stays_channels_last() -> None:
    images = torch.zeros(1, 2, 30, 30).to(memory_format=torch.channels_last)
    for start in (-3, 2):
        part = tiles._taken(images, tiles.Cut(start, 20, 0, 20), tiles.Cut(3, 20, 3, 20))
        assert part.is_contiguous(memory_format=torch.channels_last)


LARGE = """
import resource, sys, torch
import numpy as np
from dltrain.config import model as settings
from dltrain.config.spec import DataSpec, Target
from dltrain.masking import masker
from dltrain.models import build_model
from dltrain.tasks.segmentation import Segmentation
torch.set_num_threads(1)
side = int(sys.argv[1])
cfg = settings.UNet(depth=3, base_channels=8)
if sys.argv[2:] == ["resnet34"]:
    cfg = settings.UNetResNet(blocks=[3, 4, 6, 3], base_channels=8)
model = build_model(cfg, (1, 256, 256), 2)
task = Segmentation(model, ("a", "b"), mean=(0,), std=(1,)).eval()
spec = DataSpec("large", (1, 256, 256), Target.mask, ("a", "b"), {}, (0,), (1,))
answer = masker(task, spec, torch.device("cpu"))
answer(np.zeros((1, 64, 64), np.uint8), lambda share: None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = answer(np.ones((1, side, side), np.uint8), lambda share: None)
print(found.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_an_image_of_8192_pixels_a_side_takes_less_than_2_gb() -> None:
    """Measured in a process of its own, since peaks do not fall; image and answer are 128 MB of it."""
    ran = subprocess.run([sys.executable, "-c", LARGE, "8192"], capture_output=True, text=True, check=True)
    shape, _, megabytes = ran.stdout.strip().rpartition(" ")
    assert shape == "(8192, 8192)"
    assert int(megabytes) < 2048


@pytest.mark.slow
def test_a_network_that_looks_far_takes_no_more_than_a_tile() -> None:
    """300 MB with 8 channels, an eighth of what is usual; the whole image would take 1.2 GB."""
    ran = subprocess.run([sys.executable, "-c", LARGE, "3072", "resnet34"], capture_output=True, text=True, check=True)
    shape, _, megabytes = ran.stdout.strip().rpartition(" ")
    assert shape == "(3072, 3072)"
    assert int(megabytes) < 500
