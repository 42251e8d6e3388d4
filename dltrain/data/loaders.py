"""Batches, resident: all images decoded once, as uint8 on the device. The streaming loader ends in the same thing."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from dltrain.config.data import Augment, MaskAugment, Sampling
from dltrain.config.spec import DataSpec, Target
from dltrain.data.batch import Batch
from dltrain.data.imageset import ImageSet, Size
from dltrain.data.mix import Mix
from dltrain.data.preprocess import Preprocess, PreprocessMasks
from dltrain.data.ragged import Ragged
from dltrain.data.sampling import balanced, shuffled
from dltrain.digest import weights_sha256 as sha256
from dltrain.transfer import to_device

CHUNK_VALUES = 2**22  # numbers in a chunk of evaluation images at most, whatever the training batch
MOST_IN_CHUNK = 256
Pixels = Tensor | Ragged  # uint8 (B, C, H, W); or, of a set with masks, images of any size with their masks


class Data(ABC):
    """Training batches by step, and the splits in order.

    A batch depends on (seed, step) only, never on which loader made it, nor on what was read before. `lost`: pixels on
    each side of a window that the network's answers to it lack.
    """

    def __init__(
        self,
        images: ImageSet,
        device: torch.device,
        batch_size: int,
        seed: int,
        changes: Augment | MaskAugment,
        sampling: Sampling = Sampling.shuffled,
        lost: int = 0,
    ) -> None:
        if isinstance(changes, MaskAugment) != (images.spec.target is Target.mask):
            raise TypeError(f"{type(changes).__name__} is not for targets of kind {images.spec.target}")
        self.spec = images.spec
        self.device = device
        self.batch_size = min(batch_size, len(images.splits["train"]))
        self.steps_per_epoch = len(images.splits["train"]) // self.batch_size
        self.seed = seed
        self.sampling = sampling
        self._all_targets = torch.from_numpy(images.targets)
        self._splits = {name: torch.from_numpy(numbers) for name, numbers in images.splits.items()}
        self._device_targets = self._all_targets.to(device)
        self._has_targets = images.spec.target not in (Target.nothing, Target.mask)
        self._sizes = images.sizes if images.spec.target is Target.mask else None
        of_images = changes if isinstance(changes, Augment) else Augment()
        of_masks = changes if isinstance(changes, MaskAugment) else MaskAugment()
        self._prepare = Preprocess(images.spec, device, seed, of_images)
        self._mix = Mix(images.spec, seed, of_images)
        self._prepare_masks = PreprocessMasks(images.spec, device, seed, of_masks, lost)

    def batches(self, step: int) -> Iterator[Batch]:
        """Training batches from this step on, without end; what is left of an epoch's last batch is left out."""
        for at, (epoch, pixels, ids) in enumerate(self._training(step), step):
            if isinstance(pixels, Ragged):
                yield self._prepare_masks.windows(pixels, ids, epoch)
            else:
                targets = self._targets_of(self.samples(ids))
                yield self._mix(Batch(self._prepare(pixels, ids, epoch), targets, ids), at)

    def split(self, name: str) -> Iterator[Batch]:
        """One pass over `train`, `val` or `test` in order, without augmentation; the last chunk is smaller.

        Images with masks come whole, in their own sizes: a chunk is neighbours of one size.
        """
        for pixels, ids, size in self._whole(name):
            if isinstance(pixels, Ragged):
                yield self._prepare_masks.whole(pixels, ids, size)
            else:
                yield Batch(self._prepare(pixels, ids, None), self._targets_of(ids), ids)

    def targets(self, name: str) -> Tensor | None:
        """(N,) or (N, K), all targets of a split, on the CPU, in the order of `split`; None where images have none.

        None of masks too, which are as large as the images: see `class_pixels`.
        """
        return self._all_targets[self._splits[name]] if self._has_targets else None

    def class_pixels(self, name: str) -> Tensor:
        """(K,) int64 on the CPU: pixels of each class in the masks of a split, counted by one pass over them."""
        counts = torch.zeros(len(self.spec.class_names), dtype=torch.int64, device=self.device)
        for pixels, _, size in self._whole(name):
            if not isinstance(pixels, Ragged):
                raise TypeError(f"{self.spec.name} has no masks")
            masks = pixels.alike(size)[:, self.spec.shape[0]]
            counts += torch.bincount(masks.reshape(-1), minlength=256)[: len(counts)]
        return counts.cpu()

    def _targets_of(self, samples: Tensor) -> Tensor | None:
        """The targets of these samples, on the device."""
        return self._device_targets.index_select(0, samples) if self._has_targets else None

    def pixels(self, name: str) -> Iterator[Tensor]:
        """The images of a split in order, uint8 (B, C, H, W) on the device, as they are before normalization."""
        for pixels, _, _ in self._whole(name):
            if isinstance(pixels, Ragged):
                raise TypeError(f"the images of {self.spec.name} have masks, and sizes of their own")
            yield pixels

    def digests(self) -> dict[str, str]:
        """SHA-256 of the decoded images and targets of each split; empty where they are not all in memory."""
        return {}

    def digest(self) -> str:
        """SHA-256 of all of them, however they are split; "" where they are not all in memory."""
        return ""

    def close(self) -> None:
        """End worker processes, if there are any."""
        return

    @property
    def chunk(self) -> int:
        """Images in a chunk of `split`: a function of the shape only, so that evaluation does not follow the batch."""
        return self._most(self.spec.shape[1:])

    def order(self, epoch: int) -> Tensor:
        """(N,) ids of an epoch in the order of training, on the CPU: see `samples`."""
        train = self._splits["train"]
        if self.sampling == Sampling.balanced:
            return balanced(train, self._all_targets[train], self.seed, epoch, len(self._all_targets))
        return shuffled(train, self.seed, epoch)

    def samples(self, ids: Tensor) -> Tensor:
        """(B,) the sample numbers of ids: the same, but where an image comes again within an epoch under another id."""
        return ids % len(self._all_targets) if self.sampling == Sampling.balanced else ids

    def _whole(self, name: str) -> Iterator[tuple[Pixels, Tensor, Size]]:
        """(uint8 images, ids, their size) of a split in chunks, on the device."""
        numbers = self._splits[name]
        own = self.spec.shape[1:]
        runs = [(own, len(numbers))]
        if self._sizes is not None:
            sizes = map(tuple, self._sizes[numbers.numpy()].tolist())
            runs = [(size, len(list(same))) for size, same in itertools.groupby(sizes)]
        chunks = [
            (size, min(self._most(size), count - at))
            for size, count in runs
            for at in range(0, count, self._most(size))
        ]
        found = self._in_order(numbers, [length for _, length in chunks])
        for (size, _), (pixels, ids) in zip(chunks, found, strict=True):
            yield pixels, ids, size

    def _most(self, size: Size) -> int:
        """Images of this size in a chunk."""
        return max(1, min(MOST_IN_CHUNK, CHUNK_VALUES // (self.spec.shape[0] * size[0] * size[1])))

    @abstractmethod
    def _training(self, step: int) -> Iterator[tuple[int, Pixels, Tensor]]:
        """(epoch, uint8 images, ids) of each step from this one on, on the device."""

    @abstractmethod
    def _in_order(self, numbers: Tensor, lengths: list[int]) -> Iterator[tuple[Pixels, Tensor]]:
        """(uint8 images, ids) of these samples in chunks of these lengths, on the device."""


class ResidentData(Data):
    """Every image on the device; a batch is an index. No copy and no synchronization within an epoch."""

    def __init__(
        self,
        images: ImageSet,
        pixels: Pixels,
        device: torch.device,
        batch_size: int,
        seed: int,
        changes: Augment | MaskAugment,
        sampling: Sampling = Sampling.shuffled,
        lost: int = 0,
    ) -> None:
        super().__init__(images, device, batch_size, seed, changes, sampling, lost)
        self._crops = isinstance(changes, Augment) and changes.resized_crop is not None
        self._pixels = pixels.to(device)  # (N, C, H, W), or as many images with masks; row = sample number
        self._device_splits = {name: numbers.to(device) for name, numbers in self._splits.items()}

    def digests(self) -> dict[str, str]:
        return {split: sha256(self._parts(ids)) for split, ids in self._device_splits.items()}

    def digest(self) -> str:
        return sha256(_parts(self._pixels, self._device_targets, self.spec))

    def _parts(self, ids: Tensor) -> dict[str, Tensor]:
        return _parts(self._rows(ids), self._device_targets.index_select(0, ids), self.spec)

    def _rows(self, samples: Tensor) -> Pixels:
        """The pixels of these samples."""
        if isinstance(self._pixels, Ragged):
            return self._pixels.select(samples)
        return self._pixels.index_select(0, samples)

    def _training(self, step: int) -> Iterator[tuple[int, Pixels, Tensor]]:
        if self._crops:
            raise ValueError("resized_crop takes parts of images as they are read: it needs the streaming loader")
        epoch, within = divmod(step, self.steps_per_epoch)
        while True:
            order = to_device(self.order(epoch), self.device)
            for index in range(within, self.steps_per_epoch):
                ids = order[index * self.batch_size : (index + 1) * self.batch_size]
                yield epoch, self._rows(self.samples(ids)), ids
            epoch, within = epoch + 1, 0

    def _in_order(self, numbers: Tensor, lengths: list[int]) -> Iterator[tuple[Pixels, Tensor]]:
        for ids in torch.split(to_device(numbers, self.device), lengths):
            yield self._rows(ids), ids


def _parts(pixels: Pixels, targets: Tensor, spec: DataSpec) -> dict[str, Tensor]:
    """What a digest is over: images and masks, not the border term, which follows from them and only training has."""
    if isinstance(pixels, Ragged):
        return {"images": pixels.packed(spec.shape[0] + 1), "sizes": pixels.sizes}
    return {"images": pixels, "targets": targets}
