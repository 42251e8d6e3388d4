"""What a network attends to: attention maps of some images of an evaluation, over the images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from PIL import Image
from torch import Tensor, nn

from dltrain.models.attention import AttentionMap
from dltrain.report.heatmaps import Layer, heatmaps
from dltrain.report.table import count
from dltrain.tasks import Batch, Picture
from dltrain.tasks.kept import Kept, spread
from dltrain.tasks.pictures import to_images

SHOWN = 8  # images
MOST = 6  # layers
INNER = ("attention", "spatial", "map")  # names of modules inside of a layer's attention

Fields = dict[str, Tensor]
Captions = Callable[[Fields], tuple[list[str], Sequence[bool | None] | None]]


class Attended:
    """Keeps, during an evaluation, the images that are shown: the first of those that `predictions` shows.

    Nothing is kept, run or drawn of a network that has no AttentionMap.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._attends = any(isinstance(module, AttentionMap) for module in network.modules())
        self._some = Kept(SHOWN)
        self._images = 0
        self._device = torch.device("cpu")

    def add(self, batch: Batch, take: Callable[[Tensor], Fields]) -> None:
        """Look at a batch without waiting for the device; `take(rows)` gives what captions are made of."""
        if not self._attends:
            return
        self._images += len(batch.ids)
        self._device = batch.images.device

        def with_images(rows: Tensor) -> Fields:
            columns = {"ids": batch.ids, "images": batch.images}
            return take(rows) | {name: column.index_select(0, rows) for name, column in columns.items()}

        self._some.add(spread(batch.ids), with_images)

    def pictures(self, to_pixels: Callable[[Tensor], Tensor], captions: Captions) -> dict[str, Picture]:
        """`attention`, drawn when it is called; the images go through the network, in its present mode, at once.

        `captions` gives, of the kept fields, what stands beside the images, and which answers are right.
        """
        if not self._attends:
            return {}
        _, fields = self._some.read()
        order = fields["ids"].argsort()
        fields = {name: values[order] for name, values in fields.items()}
        images = fields["images"].to(self._device)
        layers = shown_layers(attention_maps(self.network, images))
        pixels = to_pixels(images).cpu()
        return {"attention": lambda: self._draw(pixels, layers, *captions(fields))} if layers else {}

    def _draw(
        self, pixels: Tensor, layers: Sequence[Layer], captions: Sequence[str], marks: Sequence[bool | None] | None
    ) -> Image.Image:
        title = f"what the network attends to in {len(pixels)} of {count(self._images, 'image')}"
        return heatmaps(to_images(pixels), layers, captions, marks, title)


def attention_maps(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """(B, h, w) float32 weights, on the CPU, of each AttentionMap of a network by its name, in the forward's order."""
    with torch.inference_mode(), recording(network) as found:
        network(images)
    return {name: weights[:, 0].float().cpu() for name, weights in found.items()}


@contextmanager
def recording(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The (B, 1, h, w) weights that AttentionMap modules are given in the forward passes inside of this context."""
    found: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, weights: Tensor) -> None:
        found[name] = weights

    modules = [(name, module) for name, module in network.named_modules() if isinstance(module, AttentionMap)]
    handles = [module.register_forward_hook(partial(keep, name)) for name, module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def shown_layers(maps: dict[str, Tensor]) -> list[Layer]:
    """The last map of each resolution, and of these the last MOST. A map of one position shows nothing."""
    last = {tuple(weights.shape[1:]): name for name, weights in maps.items() if weights[0].numel() > 1}
    names = [name for name in maps if name in last.values()]
    return [Layer(layer_of(name), maps[name].numpy()) for name in names[-MOST:]]


def layer_of(name: str) -> str:
    """`layer4.1` for `layer4.1.attention.spatial.map`, `conv7` for `attention.conv7.map`."""
    parts = name.split(".")
    return ".".join(part for part in parts if part not in INNER) or name
