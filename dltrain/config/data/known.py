"""Sets that come with dltrain or are fetched on first use."""

from dataclasses import dataclass
from typing import ClassVar

from dltrain.config.data.base import Data, Fetched
from dltrain.config.knob import knob


@dataclass
class Digits(Data):
    """5,000 real MNIST digits that come with dltrain: 350 a class to train, 50 val, 100 test. No download."""

    opens: ClassVar[str] = "embedded:open_digits"
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "digits"


@dataclass
class Mnist(Fetched):
    """MNIST (LeCun, Cortes, Burges): 60,000 training and 10,000 test digits, 1x28x28."""

    opens: ClassVar[str] = "mnist:open_mnist"
    class_count: ClassVar[int | None] = 10
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "mnist"


@dataclass
class FashionMnist(Fetched):
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 training and 10,000 test articles, 1x28x28."""

    opens: ClassVar[str] = "mnist:open_fashion_mnist"
    class_count: ClassVar[int | None] = 10
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "fashion_mnist"


@dataclass
class DigitsPose(Data):
    """The embedded digits, each turned, scaled and shifted by the key of its id: what is learned is the pose."""

    opens: ClassVar[str] = "digits_pose:open_digits_pose"
    kind: ClassVar[str] = "value"
    native: ClassVar[tuple[int, int, int] | None] = (1, 32, 32)
    all_values: ClassVar[tuple[str, ...]] = ("rotation", "scale", "shift_x", "shift_y")
    name: str = "digits_pose"
    values: list[str] | None = knob(None, "what is learned: of rotation, scale, shift_x, shift_y; null: all four")


@dataclass
class Cifar10(Fetched):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test photos, 3x32x32, 10 classes."""

    opens: ClassVar[str] = "cifar:open_cifar10"
    class_count: ClassVar[int | None] = 10
    native: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    name: str = "cifar10"


@dataclass
class Cifar100(Fetched):
    """CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test photos, 3x32x32, 100 classes."""

    opens: ClassVar[str] = "cifar:open_cifar100"
    class_count: ClassVar[int | None] = 100
    native: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    name: str = "cifar100"
