"""Settings of the LeNets."""

from dataclasses import dataclass
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Activation, Model, Norm, Pool, Size


@dataclass
class LeNet5(Model):
    """LeNet-5 (LeCun et al. 1998, figure 2) with a fully connected C3 and a linear output: 61,706 parameters."""

    builds: ClassVar[str] = "lenet5:LeNet5"
    fixed_size: ClassVar[Size | None] = (32, 32)
    name: str = "lenet5"
    activation: Activation = knob(Activation.relu, "activation after C1, C3, C5 and F6; the paper has tanh")
    pool: Pool = knob(Pool.max, "subsampling S2 and S4; the paper averages")
    norm: Norm = knob(Norm.none, "normalization before each activation")
    dropout: float = knob(0.0, "share of C5's and F6's units dropped in training", ge=0, lt=1)


@dataclass
class LeNet5Caffe(Model):
    """LeNet-5 as Caffe's example has it, 20-50-500, the form of the pruning literature: 431,080 parameters at 28x28."""

    builds: ClassVar[str] = "lenet5_caffe:LeNet5Caffe"
    name: str = "lenet5_caffe"
    norm: Norm = knob(Norm.none, "normalization behind each layer but the last")
    dropout: float = knob(0.0, "share of ip1's 500 units dropped in training", ge=0, lt=1)

    @property
    def min_size(self) -> Size:
        return 13, 13  # 5x5 convolution, 9; pooling by 2 that rounds up, 5; convolution, 1; pooling, 1
