"""A judge: a network that was trained on other grounds, in whose features images are compared."""

from typing import NamedTuple, Protocol

from torch import Tensor

from dltrain.report.terminal import Screen


class Seen(NamedTuple):
    """What a judge sees in images."""

    features: Tensor  # (N, width) float32 on the CPU
    classes: Tensor | None  # (N,) int64 on the CPU: its answers; None where they mean nothing here


class Judge(Protocol):
    """Features of images, and the class that it takes each for."""

    name: str  # "LeNet-5", for people
    where: str  # its run folder, or the package that it comes from
    weights_sha256: str
    width: int  # of its features
    class_names: tuple[str, ...]  # empty where its classes mean nothing here
    most: int  # training images that it is shown

    def look(self, images: Tensor) -> Seen:
        """(N, C, H, W) uint8, as the generator makes them."""
        ...


def tell(screen: Screen, text: str) -> None:
    """A line; inside a sweep, which has its own lines, in `run.log` alone."""
    if screen.brief:
        screen.log_only(text)
    else:
        screen.line(text)


def describe(judge: Judge) -> dict[str, str]:
    """What `environment.json` says of a judge."""
    return {"run": judge.where, "model": judge.name, "weights_sha256": judge.weights_sha256}
