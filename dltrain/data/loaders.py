"""Batches, resident: all images decoded once, as uint8 on the device. The streaming loader ends in the same thing."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from dltrain.config.data import Augment, Sampling
from dltrain.config.spec import Target
from dltrain.data.batch import Batch
from dltrain.data.imageset import ImageSet
from dltrain.data.mix import Mix
from dltrain.data.preprocess import Preprocess
from dltrain.data.sampling import balanced, shuffled
from dltrain.digest import weights_sha256 as sha256

CHUNK_VALUES = 2**22  # numbers in a chunk of evaluation images at most, whatever the training batch


class Data(ABC):
    """Training batches by step, and the splits in order.

    A batch depends on (seed, step) only, never on which loader made it, nor on what was read before.
    """

    def __init__(
        self,
        images: ImageSet,
        device: torch.device,
        batch_size: int,
        seed: int,
        changes: Augment,
        sampling: Sampling = Sampling.shuffled,
    ) -> None:
        self.spec = images.spec
        self.device = device
        self.batch_size = min(batch_size, len(images.splits["train"]))
        self.steps_per_epoch = len(images.splits["train"]) // self.batch_size
        self.seed = seed
        self.sampling = sampling
        self._all_targets = torch.from_numpy(images.targets)
        self._splits = {name: torch.from_numpy(numbers) for name, numbers in images.splits.items()}
        self._device_targets = self._all_targets.to(device)
        self._has_targets = images.spec.target != Target.nothing
        self._prepare = Preprocess(images.spec, device, seed, changes)
        self._mix = Mix(images.spec, seed, changes)

    def batches(self, step: int) -> Iterator[Batch]:
        """Training batches from this step on, without end; what is left of an epoch's last batch is left out."""
        for at, (epoch, pixels, ids) in enumerate(self._training(step), step):
            targets = self._targets_of(self.samples(ids))
            yield self._mix(Batch(self._prepare(pixels, ids, epoch), targets, ids), at)

    def split(self, name: str) -> Iterator[Batch]:
        """One pass over `train`, `val` or `test` in order, without augmentation; the last chunk is smaller."""
        for pixels, ids in self._in_order(self._splits[name], self.chunk):
            yield Batch(self._prepare(pixels, ids, None), self._targets_of(ids), ids)

    def targets(self, name: str) -> Tensor | None:
        """(N,) or (N, K), all targets of a split, on the CPU, in the order of `split`; None where there are none."""
        return self._all_targets[self._splits[name]] if self._has_targets else None

    def _targets_of(self, samples: Tensor) -> Tensor | None:
        """The targets of these samples, on the device."""
        return self._device_targets.index_select(0, samples) if self._has_targets else None

    def digests(self) -> dict[str, str]:
        """SHA-256 of the decoded images and targets of each split; empty where they are not all in memory."""
        return {}

    def close(self) -> None:
        """End worker processes, if there are any."""
        return

    @property
    def chunk(self) -> int:
        """Images in a chunk of `split`: a function of the shape only, so that evaluation does not follow the batch."""
        channels, height, width = self.spec.shape
        return max(1, min(256, CHUNK_VALUES // (channels * height * width)))

    def order(self, epoch: int) -> Tensor:
        """(N,) ids of an epoch in the order of training, on the CPU: see `samples`."""
        train = self._splits["train"]
        if self.sampling == Sampling.balanced:
            return balanced(train, self._all_targets[train], self.seed, epoch, len(self._all_targets))
        return shuffled(train, self.seed, epoch)

    def samples(self, ids: Tensor) -> Tensor:
        """(B,) the sample numbers of ids: the same, but where an image comes again within an epoch under another id."""
        return ids % len(self._all_targets) if self.sampling == Sampling.balanced else ids

    @abstractmethod
    def _training(self, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(epoch, uint8 images, ids) of each step from this one on, on the device."""

    @abstractmethod
    def _in_order(self, numbers: Tensor, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(uint8 images, ids) of these samples in chunks, on the device."""


class ResidentData(Data):
    """Every image on the device; a batch is an index. No copy and no synchronization within an epoch."""

    def __init__(
        self,
        images: ImageSet,
        pixels: Tensor,
        device: torch.device,
        batch_size: int,
        seed: int,
        changes: Augment,
        sampling: Sampling = Sampling.shuffled,
    ) -> None:
        super().__init__(images, device, batch_size, seed, changes, sampling)
        self._crops = changes.resized_crop is not None
        self._pixels = pixels.to(device)  # (N, C, H, W), row = sample number
        self._device_splits = {name: numbers.to(device) for name, numbers in self._splits.items()}

    def digests(self) -> dict[str, str]:
        parts = {"images": self._pixels, "targets": self._device_targets}
        return {
            split: sha256({name: values.index_select(0, ids) for name, values in parts.items()})
            for split, ids in self._device_splits.items()
        }

    def _training(self, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        if self._crops:
            raise ValueError("resized_crop takes parts of images as they are read: it needs the streaming loader")
        epoch, within = divmod(step, self.steps_per_epoch)
        while True:
            order = to_device(self.order(epoch), self.device)
            for index in range(within, self.steps_per_epoch):
                ids = order[index * self.batch_size : (index + 1) * self.batch_size]
                yield epoch, self._pixels.index_select(0, self.samples(ids)), ids
            epoch, within = epoch + 1, 0

    def _in_order(self, numbers: Tensor, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        for ids in torch.split(to_device(numbers, self.device), chunk):
            yield self._pixels.index_select(0, ids), ids


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device; to a GPU by pinned memory, so that the host does not wait."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
