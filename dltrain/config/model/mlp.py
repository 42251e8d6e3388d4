"""Settings of the multilayer perceptron."""

from dataclasses import dataclass
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Activation, Model, Norm


@dataclass
class MLP(Model):
    """Multilayer perceptron (Rumelhart, Hinton, Williams 1986); 300-100 is LeCun et al. 1998, section III.C.4."""

    builds: ClassVar[str] = "mlp:MLP"
    name: str = "mlp"
    widths: list[int] = knob(lambda: [300, 100], "width of each hidden layer", ge=1, unit="units")
    depth: int | None = knob(
        None, "number of hidden layers: the first widths, the last one repeated; null: all widths", ge=0, le=1000
    )
    activation: Activation = knob(Activation.relu, "activation after each hidden layer")
    norm: Norm = knob(Norm.none, "normalization before each activation")
    dropout: float = knob(0.0, "share of hidden units dropped in training", ge=0, lt=1, source="Srivastava 2014")
