"""Parts that several families share: activations, norms, initialization, and the unit made of them."""

from torch import Tensor, nn

from dltrain.config.model import Activation, Norm

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.sigmoid: nn.Sigmoid,
    Activation.tanh: nn.Tanh,
    Activation.relu: nn.ReLU,
    Activation.leaky_relu: nn.LeakyReLU,
    Activation.gelu: nn.GELU,
    Activation.silu: nn.SiLU,
}


def activation(name: Activation) -> nn.Module:
    """A new activation module; leaky ReLU has slope 0.01 (Maas 2013)."""
    return _ACTIVATIONS[name]()


def norm1d(name: Norm, features: int) -> nn.Module:
    """Normalization of (B, features)."""
    return nn.BatchNorm1d(features) if name is Norm.batch else nn.Identity()


def norm2d(name: Norm, channels: int) -> nn.Module:
    """Normalization of (B, channels, H, W)."""
    return nn.BatchNorm2d(channels) if name is Norm.batch else nn.Identity()


def dropout(share: float) -> nn.Module:
    """Dropout, or nothing at share 0, which then costs nothing."""
    return nn.Dropout(share) if share > 0 else nn.Identity()


def initialize(layer: nn.Linear | nn.Conv2d, name: Activation | None) -> None:
    """Weights that fit the activation behind them, drawn from torch's default generator; biases are zero.

    sigmoid, tanh: Glorot and Bengio 2010, equation 16, times a gain. That of tanh is torch's, 5/3. The equation is
    for a slope of 1 at zero and the sigmoid's is 1/4, hence 4; torch's gain of 1 loses a factor of 4 a layer, and
    networks of four hidden layers and more do not learn. ReLU and its smooth relatives: He et al. 2015, equations 10
    and 15 (GELU and SiLU as ReLU). None, for a linear output: Glorot with gain 1.
    """
    if name is None:
        nn.init.xavier_uniform_(layer.weight)
    elif name is Activation.sigmoid:
        nn.init.xavier_uniform_(layer.weight, gain=4.0)
    elif name is Activation.tanh:
        nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))
    elif name is Activation.leaky_relu:
        nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
    else:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class LinearUnit(nn.Module):
    """Linear, norm, activation, dropout: (B, inputs) -> (B, outputs). The norm's shift replaces the bias."""

    def __init__(self, inputs: int, outputs: int, act: Activation, norm: Norm, drop: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=norm is Norm.none)
        self.norm = norm1d(norm, outputs)
        self.activation = activation(act)
        self.dropout = dropout(drop)
        initialize(self.linear, act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.activation(self.norm(self.linear(x))))
        return out


class ConvUnit(nn.Module):
    """Convolution without padding, norm, activation: (B, inputs, H, W) -> (B, outputs, H-k+1, W-k+1)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, act: Activation, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=norm is Norm.none)
        self.norm = norm2d(norm, outputs)
        self.activation = activation(act)
        initialize(self.conv, act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


def output_layer(inputs: int, num_outputs: int) -> nn.Linear:
    """The last, linear layer: (B, inputs) -> (B, num_outputs)."""
    layer = nn.Linear(inputs, num_outputs)
    initialize(layer, None)
    return layer
