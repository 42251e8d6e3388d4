"""Model settings: one dataclass a family. The paper's own numbers are the defaults."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob


class Activation(StrEnum):
    sigmoid = "sigmoid"
    tanh = "tanh"
    relu = "relu"
    leaky_relu = "leaky_relu"
    gelu = "gelu"
    silu = "silu"


class Norm(StrEnum):
    none = "none"
    batch = "batch"


class Pool(StrEnum):
    max = "max"
    avg = "avg"


@dataclass
class Model:
    """What every model's settings have. `builds` is `file:Class` below `models/` of the package that declares it."""

    builds: ClassVar[str] = ""
    fixed_size: ClassVar[tuple[int, int] | None] = None  # (H, W) if the network takes one size only
    min_size: ClassVar[tuple[int, int]] = (1, 1)  # smallest (H, W) that the network can take
    task: ClassVar[str] = "classification"  # the task it is trained for when the data allow it
    name: str = knob("", "the family; read back from a saved config to find its settings")


@dataclass
class MLP(Model):
    """Multilayer perceptron (Rumelhart, Hinton, Williams 1986); 300-100 is LeCun et al. 1998, section III.C.4."""

    builds: ClassVar[str] = "mlp:MLP"
    name: str = "mlp"
    widths: list[int] = knob(lambda: [300, 100], "width of each hidden layer", ge=1, unit="units")
    depth: int | None = knob(
        None, "number of hidden layers: the first widths, the last one repeated; null: all widths", ge=0
    )
    activation: Activation = knob(Activation.relu, "activation after each hidden layer")
    norm: Norm = knob(Norm.none, "normalization before each activation")
    dropout: float = knob(0.0, "share of hidden units dropped in training", ge=0, lt=1, source="Srivastava 2014")


@dataclass
class LeNet5(Model):
    """LeNet-5 (LeCun et al. 1998, figure 2) with a fully connected C3 and a linear output: 61,706 parameters."""

    builds: ClassVar[str] = "lenet5:LeNet5"
    fixed_size: ClassVar[tuple[int, int] | None] = (32, 32)
    min_size: ClassVar[tuple[int, int]] = (32, 32)
    name: str = "lenet5"
    activation: Activation = knob(Activation.relu, "activation after C1, C3, C5 and F6; the paper has tanh")
    pool: Pool = knob(Pool.max, "subsampling S2 and S4; the paper averages")
    norm: Norm = knob(Norm.none, "normalization before each activation")
    dropout: float = knob(0.0, "share of C5's and F6's units dropped in training", ge=0, lt=1)
