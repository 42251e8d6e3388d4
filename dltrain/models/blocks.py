"""Parts that several families share: activations, norms, initialization, and the unit made of them."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config.model import Activation, Norm

NARROW = 16  # channels from which a strided 1x1 convolution is safe on a CPU, see SampledConv2d

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


def conv2d(
    inputs: int, outputs: int, kernel: int, stride: int, norm: Norm, fan: Literal["fan_in", "fan_out"] = "fan_out"
) -> nn.Conv2d:
    """A convolution padded so that stride 1 keeps the size: (B, inputs, H, W) -> (B, outputs, ceil(H/s), ceil(W/s)).

    It has a bias only where no norm behind it brings one. Weights: He et al. 2015 for ReLU, `fan_in` by equation 10, so
    that signals keep their size, `fan_out` by equation 14, so that gradients do.
    """
    kind = SampledConv2d if kernel == 1 and stride > 1 and inputs < NARROW else nn.Conv2d
    layer = kind(inputs, outputs, kernel, stride, padding=kernel // 2, bias=norm is Norm.none)
    nn.init.kaiming_normal_(layer.weight, mode=fan, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class SampledConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride, as one of stride 1 over every so many positions: the same numbers.

    oneDNN's backward of the strided one writes past its memory on a CPU with channels last and fewer than 16 channels,
    which ends the process or spoils other tensors (oneDNN issue 6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


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
    """Convolution, norm, activation: (B, inputs, H, W) -> (B, outputs, (H+2p-k)//s+1, (W+2p-k)//s+1)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        act: Activation,
        norm: Norm,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=norm is Norm.none)
        self.norm = norm2d(norm, outputs)
        self.activation = activation(act)
        initialize(self.conv, act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class AdaptiveAveragePool(nn.Module):
    """(B, C, H, W) -> (B, C, h, w), the means of torch's AdaptiveAvgPool2d, with a backward that is exact on CUDA too.

    torch's own raises there under deterministic algorithms, so means over parts of unequal size are matrix products,
    in float32 at least: in half precision a third is wrong by 0.1 %, and the same way for each image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (rows, columns) = x.shape[2:], self.size
        if (height, width) == self.size:
            return x
        if height % rows == 0 and width % columns == 0:
            return F.avg_pool2d(x, (height // rows, width // columns))
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):  # which meta has no word for
            with torch.autocast(x.device.type, enabled=False):
                return _part_means(x, rows, columns)
        return _part_means(x, rows, columns)


def _part_means(x: Tensor, rows: int, columns: int) -> Tensor:
    exact = at_least_float32(x)
    means = _means(x.shape[2], rows, exact) @ exact @ _means(x.shape[3], columns, exact).T
    return means.to(x.dtype)


def _means(positions: int, parts: int, like: Tensor) -> Tensor:
    """(parts, positions): row i averages positions floor(i n/p) to ceil((i+1) n/p) - 1."""
    part = torch.arange(parts, device=like.device)[:, None]
    at = torch.arange(positions, device=like.device)
    first, behind = part * positions // parts, -(-(part + 1) * positions // parts)
    inside = ((at >= first) & (at < behind)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


class LocalResponseNorm(nn.Module):
    """Krizhevsky et al. 2012, section 3.3: b_i = a_i / (k + alpha * sum over the n channels around i of a_j^2)^beta.

    torch's divides alpha by n, and takes its sums by a pooling whose backward is not deterministic on CUDA. Computed
    in float32 at least, as torch's is under autocast: in float16 a value of 256 has no square.
    """

    def __init__(self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, a: Tensor) -> Tensor:
        channels, exact = a.shape[1], at_least_float32(a)
        squares = F.pad(exact.square(), (0, 0, 0, 0, self.n // 2, (self.n - 1) // 2))
        total = squares[:, :channels]
        for shift in range(1, self.n):
            total = total + squares[:, shift : shift + channels]
        return (exact / (self.k + self.alpha * total) ** self.beta).to(a.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, for what must not be computed in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def output_layer(inputs: int, num_outputs: int, std: float | None = None) -> nn.Linear:
    """The last, linear layer: (B, inputs) -> (B, num_outputs); weights from N(0, std), by default Glorot's.

    A small std is for averages of ReLUs, which are large and differ little from image to image: Glorot's weights would
    begin with large logits that are the same for every image.
    """
    layer = nn.Linear(inputs, num_outputs)
    if std is None:
        initialize(layer, None)
    else:
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return layer
