"""Images through a network, file by file: decoded by threads, in passes of one size, for any number of files."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from dltrain import environment
from dltrain.config.spec import DataSpec
from dltrain.data.decode import UnreadableError
from dltrain.data.imageset import Images
from dltrain.data.inputs import Inputs
from dltrain.data.preprocess import Preprocess
from dltrain.data.sizes import to_image
from dltrain.engine.precision import autocast
from dltrain.environment import Environment
from dltrain.report.predictions import Predictions
from dltrain.report.sheet import sheet
from dltrain.report.table import count, duration, percent
from dltrain.report.terminal import Screen
from dltrain.text import safe_text

CHUNK = 16  # images in each pass, also for a single one: what an image gets must not hang on their number
AHEAD = 4 * CHUNK  # images that are decoded before they are needed, at most
THREADS = 8  # that decode, at most
ON_SHEET = 64
EVERY = 10.0  # seconds between two lines of progress where there is no terminal

T = TypeVar("T")


def network(task: Any, spec: DataSpec, env: Environment) -> Callable[[list[Images]], NDArray[Any]]:
    """A function from at most `CHUNK` images to the task's answers (B, K), in evaluation's preprocessing and precision.

    Each pass has `CHUNK` images, zeros in place of those that are not there. So the same kernels compute an image
    however many others there are, and its bits depend on nothing but weights, pixels and device.
    """
    normalize = Preprocess(spec, env.device).normalize

    def answers(images: list[Images]) -> NDArray[Any]:
        pixels = np.zeros((CHUNK, *spec.shape), np.uint8)
        pixels[: len(images)] = images
        batch = normalize(torch.from_numpy(pixels).to(env.device)).contiguous(memory_format=env.memory_format)
        with autocast(env.precision, env.device):
            values: torch.Tensor = task.predict(batch).values
        return values[: len(images)].cpu().numpy()

    return answers


def predict_files(
    inputs: Inputs,
    read: Callable[[Path], Images],
    answers: Callable[[list[Images]], NDArray[Any]],
    spec: DataSpec,
    screen: Screen,
) -> tuple[Predictions, Image | None]:
    """What the network says of each file; and a page of images as it sees them, some from all over the list.

    There is no page where no file could be read.
    """
    total = len(inputs.files)
    found = Predictions(spec.class_names or spec.value_names, total, classes=bool(spec.class_names))
    chosen = set(np.linspace(0, total - 1, min(total, ON_SHEET)).astype(int).tolist())
    pictures: list[Image] = []
    captions: list[str] = []
    waiting: list[tuple[int, Images]] = []
    progress = Progress(screen, total)

    def pass_on() -> None:
        names = [inputs.files[number] for number, _ in waiting]
        values = answers([pixels for _, pixels in waiting])
        found.add(names, values)
        for (number, pixels), row in zip(waiting, values, strict=True):
            if number in chosen:
                pictures.append(to_image(pixels))
                captions.append(_caption(inputs.files[number], row, spec))
        waiting.clear()

    for number, decoded in enumerate(decoded_files(inputs, read)):
        if isinstance(decoded, UnreadableError):
            name = inputs.files[number]
            found.unreadable.append((name, reason(decoded, inputs.root / name)))
        else:
            waiting.append((number, decoded))
        if len(waiting) == CHUNK or (waiting and number == total - 1):
            pass_on()
        progress(number + 1)
    screen.clear()
    if not found.names:
        return found, None
    return found, sheet(pictures, captions, title=title(len(captions), len(found.names)))


def title(shown: int, total: int) -> str:
    """Of a page that shows so many of all images."""
    return (f"{shown:,} of " if shown < total else "") + count(total, "image")


def decoded_files(inputs: Inputs, read: Callable[[Path], T], ahead: int = AHEAD) -> Iterator[T | UnreadableError]:
    """What `read` makes of each file, or why it cannot, in their order; by threads that keep so many files ahead."""

    def attempt(name: str) -> T | UnreadableError:
        try:
            return read(inputs.root / name)
        except UnreadableError as error:
            return error

    threads = min(THREADS, environment.usable_cores()[0])
    pool = ThreadPoolExecutor(threads)
    under_way: deque[Future[T | UnreadableError]] = deque()
    try:
        for name in inputs.files:
            under_way.append(pool.submit(attempt, name))
            if len(under_way) == ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Progress:
    """A live line on a terminal, else a line every ten seconds."""

    def __init__(self, screen: Screen, total: int) -> None:
        self._screen = screen
        self._total = total
        self._began = self._told = time.monotonic()

    def __call__(self, done: float) -> None:
        """Call after each file, or after a share of one."""
        self._screen.progress("predicting", done, self._total, lambda: self._parts(done))
        if not self._screen.live and time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            self._screen.line("predicting  " + "  ".join(self._parts(done)))

    def _parts(self, done: float) -> list[str]:
        passed = max(time.monotonic() - self._began, 1e-3)
        left = duration(passed / done * (self._total - done))
        whole, share = divmod(done, 1)
        files = f"{int(whole):,} of {count(self._total, 'file')}"
        files += f" and {share * 100:.0f} % of one" if share else ""
        rate = done / passed
        return [files, f"{left} left", f"{rate:,.0f} files/s" if rate >= 1 else f"{1 / rate:,.0f} s a file"]


def reason(error: UnreadableError, path: Path) -> str:
    """Why, without the name, which stands beside it."""
    if isinstance(error.__cause__, OSError) and error.__cause__.strerror:
        return f"cannot be read: {error.__cause__.strerror}"
    return str(error).removeprefix(f"{safe_text(str(path))} ")


def _caption(name: str, row: NDArray[Any], spec: DataSpec) -> str:
    """The file, and below it what the network says; the second part is never cut."""
    if spec.class_names:
        label = int(np.argmax(row))
        said = [(spec.class_names[label], percent(float(row[label])))]
    else:
        said = [(value_name, f"{value:.4g}") for value_name, value in zip(spec.value_names[:3], row, strict=False)]
    return "\n".join([file_caption(name), *(f"{safe_text(one)}\t{value}" for one, value in said)])


def file_caption(name: str) -> str:
    """A file with the folder that it is in; its own name is never cut."""
    path = PurePosixPath(name)
    above = path.parent.name
    return safe_text(path.name) if above == "" else f"{safe_text(above)}/\t{safe_text(path.name)}"
