"""Data sets: found and described without torch, then read into batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from dltrain.config.data import Augment, LoaderKind, MaskAugment
from dltrain.config.messages import Failure
from dltrain.config.mode import Config, Reproduce, Train
from dltrain.config.model import PerPixel
from dltrain.config.segmentation import Segmentation
from dltrain.config.spec import DataSpec, Target
from dltrain.data.decode import MAX_PIXELS, Channels, Source, UnreadableError, decode
from dltrain.data.imageset import Images, ImageSet, Say, open_set
from dltrain.data.sizes import final_size, fit, reach
from dltrain.data.whole import whole_for

if TYPE_CHECKING:
    import torch

    from dltrain.data.loaders import Data

Kind = Literal["resident", "streaming"]
SHARE = 4  # a set is resident if, decoded, it takes at most one in so many bytes of free memory

_described: tuple[str, ImageSet] | None = None  # what describe found, until open_data takes it over


def describe(cfg: Config, say: Say) -> DataSpec:
    """What is known of the config's data set: fetched if need be, scanned, split; not decoded. Raises Mistake."""
    global _described
    images = open_set(cfg, say)
    _described = (identity(cfg), images)
    return images.spec


def known(cfg: Config) -> DataSpec | None:
    """Shape and classes of a set that would have to be fetched, as its settings alone tell them; else None.

    The classes have numbers for names, and there are no images.
    """
    settings, native = type(cfg.data), type(cfg.data).native
    if native is None or settings.class_count is None:
        return None
    channels, classes = native[0], settings.class_count if cfg.data.classes is None else len(cfg.data.classes)
    return DataSpec(
        name=cfg.data.name,
        shape=(channels, *final_size(cfg.data.size, cfg.model.size_for, native[1:])),
        target=Target.classes,
        class_names=tuple(map(str, range(classes))),
        counts={},
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def open_data(cfg: Config, spec: DataSpec, device: torch.device, loader: Kind, workers: int, say: Say) -> Data:
    """The batches of the config's data set. `loader` and `workers` are resolved; they change no bit of any batch.

    Raises Failure if an image cannot be read, or if the set is no longer the one that was described.
    """
    import torch

    from dltrain.data.loaders import ResidentData
    from dltrain.data.ragged import Ragged
    from dltrain.data.streaming import StreamingData

    global _described
    found, _described = _described, None
    images = found[1] if found is not None and found[0] == identity(cfg) else open_set(cfg, say)
    if (images.spec.shape, images.spec.counts) != (spec.shape, spec.counts):
        raise Failure(f"the images in {spec.where} have changed since the run began to start: start it again")
    if weighs_borders(cfg):
        from dltrain.data.borders import with_borders

        images = with_borders(images, cfg.task)
    batch_size, seed, sampling = cfg.trainer.batch_size, cfg.seed, cfg.data.sampling
    lost = cfg.model.lost if isinstance(cfg.model, PerPixel) else 0
    changes = changes_for(cfg)
    if loader == "streaming":
        return StreamingData(images, device, batch_size, seed, changes, workers, sampling=sampling, lost=lost)
    try:
        pixels = images.read.everything(say)
    except UnreadableError as error:
        raise Failure(f"an image cannot be read: {error}") from None
    decoded = Ragged.of(pixels) if spec.target is Target.mask else torch.from_numpy(pixels)
    return ResidentData(images, decoded, device, batch_size, seed, changes, sampling, lost)


def weighs_borders(cfg: Config) -> bool:
    """Whether masks come with a border term (data/borders.py), which takes as much room as a mask: to learn from."""
    return isinstance(cfg, Train | Reproduce) and isinstance(cfg.task, Segmentation) and cfg.task.weight_map


def changes_for(cfg: Config) -> Augment | MaskAugment:
    """The random changes of a run's training images: none where it is to learn a few batches by heart.

    Windows of images with masks lie anywhere even then, so that it is whole images that are learned.
    """
    changes: Augment | MaskAugment = cfg.data.augment
    return changes if cfg.trainer.overfit_batches is None else type(changes)()


def loader_for(cfg: Config, spec: DataSpec, device_type: str, device_bytes: int) -> tuple[Kind, str]:
    """The loader, and why: as `data.loader` says, or by the share of the device's free memory that the set takes."""
    changes = changes_for(cfg)
    if cfg.data.loader == LoaderKind.auto and isinstance(changes, Augment) and changes.resized_crop is not None:
        return "streaming", "data.augment.resized_crop takes parts of the images as they are read"
    if cfg.data.loader != LoaderKind.auto:
        return ("resident" if cfg.data.loader == LoaderKind.resident else "streaming"), "given"
    channels, height, width = spec.shape
    if spec.target is Target.mask:
        needed = spec.pixels * (channels + 1 + weighs_borders(cfg))
    else:
        needed = sum(spec.counts.values()) * channels * height * width
    fits = needed * SHARE <= device_bytes
    text = f"{_bytes(needed)} decoded, {'within' if fits else 'more than'} a quarter of {_bytes(device_bytes)} free"
    return ("resident" if fits else "streaming"), f"{text} ({device_type})"


def decode_for(cfg: Config, spec: DataSpec) -> Callable[[Source], Images]:
    """A function from a file or a Pillow image to uint8 (C, H, W), exactly as evaluation sees images.

    For a known set an image of another size than the set's own is first brought to that. Of a set with masks images
    are whole, of any size: see `whole`. It raises UnreadableError.
    """
    if spec.target is Target.mask:
        whole = whole_for(cfg, spec)
        return lambda source: whole(source).pixels
    channels: Channels = 1 if spec.shape[0] == 1 else 3
    size, native = spec.shape[1:], type(cfg.data).native
    max_pixels: int = cfg.data.max_pixels if hasattr(cfg.data, "max_pixels") else MAX_PIXELS

    def read(source: Source) -> Images:
        image = decode(source, channels, max_pixels)
        return fit(image, size) if native is None else reach(fit(image, native[1:]), size)

    return read


def identity(cfg: Config) -> str:
    """All of a config that decides what `describe` finds."""
    sizes: object = None if cfg.model is None else (cfg.model.fixed_size, cfg.model.min_size)
    if cfg.data.target_kind == Target.mask:
        sizes = cfg.model  # a window suits all that decides which sizes it can take
    trainer = cfg.trainer
    short = (trainer.overfit_batches, trainer.dry_run)
    return repr((type(cfg.data), cfg.data, sizes, cfg.seed, short, trainer.batch_size if any(short) else None))


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
