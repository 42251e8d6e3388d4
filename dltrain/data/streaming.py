"""Batches, streaming: images are read and decoded as training goes, by worker processes of torch's DataLoader.

What is read does not depend on the workers: the main process says which images make a batch, workers only decode.
"""

import atexit
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dltrain.config.data import Augment, MaskAugment, Sampling
from dltrain.config.messages import Failure
from dltrain.data.crop import RandomCrop
from dltrain.data.decode import UnreadableError
from dltrain.data.imageset import ImageSet, Part, Reader
from dltrain.data.loaders import Data, Pixels
from dltrain.data.ragged import Ragged

Block = tuple[Pixels, Tensor, str]  # uint8 images, ids (B,), and what went wrong


class Portion(NamedTuple):
    """What a worker is asked for."""

    numbers: list[int]  # of samples
    ids: list[int]  # by which what is random about each is drawn
    epoch: int | None  # of training, where parts of images are drawn; None: as evaluation sees them


class StreamingData(Data):
    """Reads ahead `prefetch` batches a worker; with no workers each batch is read when it is asked for."""

    def __init__(
        self,
        images: ImageSet,
        device: torch.device,
        batch_size: int,
        seed: int,
        changes: Augment | MaskAugment,
        workers: int,
        prefetch: int = 2,
        sampling: Sampling = Sampling.shuffled,
        lost: int = 0,
    ) -> None:
        super().__init__(images, device, batch_size, seed, changes, sampling, lost)
        smallest = changes.resized_crop if isinstance(changes, Augment) else None
        crop = None if smallest is None else RandomCrop(images.spec.shape[1:], smallest, seed)
        self._files = _Files(images.read, crop, ragged=isinstance(changes, MaskAugment))
        self._workers = workers
        self._prefetch = prefetch
        self._open: list[_Stream] = []

    def _training(self, step: int) -> Iterator[tuple[int, Pixels, Tensor]]:
        stream = self._stream(_Batches(self, step))
        try:
            while True:
                pixels, ids = next(stream)
                yield step // self.steps_per_epoch, pixels, ids
                step += 1
        finally:
            self._end(stream)

    def _in_order(self, numbers: Tensor, lengths: list[int]) -> Iterator[tuple[Pixels, Tensor]]:
        stream = self._stream([Portion(part.tolist(), part.tolist(), None) for part in torch.split(numbers, lengths)])
        try:
            yield from stream
        finally:
            self._end(stream)

    def close(self) -> None:
        """End the worker processes."""
        while self._open:
            self._end(self._open[-1])

    def _stream(self, batches: Any) -> "_Stream":
        stream = _Stream(self._files, batches, self._workers, self._prefetch, self.device)
        self._open.append(stream)
        return stream

    def _end(self, stream: "_Stream") -> None:
        if stream in self._open:
            self._open.remove(stream)
        stream.close()


class _Batches:
    """Every batch from a step on, without end."""

    def __init__(self, data: Data, step: int) -> None:
        self.data = data
        self.step = step

    def __iter__(self) -> Iterator[Portion]:
        size = self.data.batch_size
        epoch, within = divmod(self.step, self.data.steps_per_epoch)
        while True:
            order = self.data.order(epoch)
            for index in range(within, self.data.steps_per_epoch):
                ids = order[index * size : (index + 1) * size]
                yield Portion(self.data.samples(ids).tolist(), ids.tolist(), epoch)
            epoch, within = epoch + 1, 0


class _Files(Dataset[Block]):
    """What a worker holds. An error travels as text, since exceptions lose their form on the way."""

    def __init__(self, read: Reader, crop: RandomCrop | None, ragged: bool) -> None:
        self.read = read
        self.crop = crop
        self.ragged = ragged

    def __getitems__(self, portion: Portion) -> Block:
        try:
            pixels = [
                self.read(number, self._part(portion.epoch, id_))
                for number, id_ in zip(portion.numbers, portion.ids, strict=True)
            ]
        except UnreadableError as error:
            return torch.empty(0), torch.empty(0), str(error)
        together = Ragged.of(pixels) if self.ragged else torch.from_numpy(np.stack(pixels))
        return together, torch.tensor(portion.ids), ""

    def _part(self, epoch: int | None, id_: int) -> Part | None:
        return None if epoch is None or self.crop is None else self.crop.part(epoch, id_)


class _Stream:
    """One pass over batches: (uint8 images, ids) on the device. Names the cause if a worker dies."""

    def __init__(self, files: _Files, batches: Any, workers: int, prefetch: int, device: torch.device) -> None:
        main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, "SIGCHLD") else None
        with warnings.catch_warnings(), _signals_held():
            warnings.simplefilter("ignore", UserWarning)  # more workers than cores is the user's choice
            loader = DataLoader(
                files,
                batch_sampler=batches,
                num_workers=workers,
                collate_fn=_as_it_is,
                pin_memory=device.type == "cuda",
                worker_init_fn=_start_worker,
                prefetch_factor=prefetch if workers else None,
                multiprocessing_context=_context() if workers else None,
                generator=torch.Generator(),  # DataLoader draws a number that nothing uses; not from the run's own
            )
            self._iterator: Any = iter(loader)
        if handler is not None:
            # DataLoader's handler raises wherever the main thread is, even in the middle of a save.
            signal.signal(signal.SIGCHLD, handler)
        self._device = device
        self._workers = workers
        atexit.register(self.close)

    def __iter__(self) -> "_Stream":
        return self

    def __next__(self) -> tuple[Pixels, Tensor]:
        try:
            pixels, ids, trouble = next(self._iterator)
        except (RuntimeError, OSError, EOFError) as error:  # the last two: a tensor was to be had from a dead worker
            raise Failure(self._cause() or f"reading images failed: {error}") from error
        if trouble:
            raise Failure(f"an image cannot be read any more: {trouble}")
        return pixels.to(self._device, non_blocking=True), ids.to(self._device, non_blocking=True)

    def close(self) -> None:
        """End the workers, those that hang too."""
        atexit.unregister(self.close)
        iterator, self._iterator = self._iterator, iter(())
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
            for process in iterator._workers:
                if process.is_alive():
                    process.kill()
                    process.join()

    def _cause(self) -> str:
        """What is known of the first worker that died."""
        workers = getattr(self._iterator, "_workers", [])
        until = time.monotonic() + (2 if workers else 0)  # its connections close before the system tells that it ended
        while not (codes := [process.exitcode for process in workers if process.exitcode]) and time.monotonic() < until:
            time.sleep(0.02)
        return death(codes[0], self._workers) if codes else ""


def death(code: int, workers: int) -> str:
    """Why a worker ended, from its exit code, and what to lower."""
    lower = f"lower data.workers (now {workers}) or trainer.batch_size; data.workers=0 reads in the training process"
    if code > 0:
        return f"a process that reads images ended with code {code}; run.log may say why; {lower}"
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        return f"a process that reads images was killed ({name}), most often because memory ran out{_memory()}; {lower}"
    if -code == getattr(signal, "SIGBUS", 0):
        return f"a process that reads images ended by {name}: shared memory is full{_shared_memory()}; {lower}"
    return f"a process that reads images ended by {name}, perhaps in an image decoder; {lower}"


def _memory() -> str:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[key].split()[0]) / 2**20 for key in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError):
        return ""
    return f" ({free:.1f} of {total:.1f} GiB are free now)"


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        return ""
    return f" (/dev/shm: {usage.free / 2**20:,.0f} of {usage.total / 2**20:,.0f} MiB are free now)"


def _as_it_is(block: Any) -> Any:
    return block


def _context() -> str | None:
    """fork where there is one: a worker starts in milliseconds, and touches neither CUDA nor torch's threads."""
    return "fork" if "fork" in torch.multiprocessing.get_all_start_methods() else None


def _of_main() -> set[signal.Signals]:
    """Signals that are for the main process, which saves the run first and ends the workers then."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold them back while workers start: each inherits the mask, so it never sees one, not even at its start."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _of_main())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(_number: int) -> None:
    """Leave signals to the main process, also where the mask is not inherited; decode in one thread."""
    for number in _of_main():
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
