"""Attention that any convolutional network can have behind a layer, and where its maps can be seen."""

import torch
from torch import Tensor, nn

from dltrain.config.model import Attention, Norm
from dltrain.models.blocks import norm2d

REDUCTION = 16  # Hu 2018, section 6.1, and Woo 2018, section 4: the bottleneck of channels
FEWEST = 4  # units of a bottleneck: 16 channels would have a single one


class AttentionMap(nn.Module):
    """Hands on the weights (B, 1, H, W) of positions unchanged: who wants to see attention maps hooks these modules."""

    def forward(self, weights: Tensor) -> Tensor:
        return weights


class SqueezeExcitation(nn.Module):
    """Hu et al. 2018, equations 2 to 4: (B, C, H, W) times a weight in 0 to 1 for each channel.

    Biases begin at zero. Behind a batch norm the averages over positions are small, and a bottleneck whose biases are
    all negative would let nothing through for any image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, FEWEST)
        self.reduce = nn.Linear(channels, hidden)
        self.relu = nn.ReLU()
        self.expand = nn.Linear(hidden, channels)
        self.sigmoid = nn.Sigmoid()
        nn.init.zeros_(self.reduce.bias)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((2, 3))  # squeeze: (B, C)
        s: Tensor = self.sigmoid(self.expand(self.relu(self.reduce(z))))  # excitation: (B, C)
        return x * s[:, :, None, None]


class ChannelAttention(nn.Module):
    """Woo et al. 2018, equation 2: the averages and the largest values of all channels through one bottleneck."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, FEWEST)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        average, largest = self.mlp(torch.stack([x.mean((2, 3)), x.amax((2, 3))]))  # (2, B, C)
        weights: Tensor = self.sigmoid(average + largest)  # (B, C)
        return x * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """Woo et al. 2018, equation 3: a 7x7 convolution over the average and the largest value of each position.

    The batch norm behind the convolution is not in the paper's equation but in its authors' code.
    """

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = norm2d(norm, 1)
        self.sigmoid = nn.Sigmoid()
        self.map = AttentionMap()

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)  # (B, 2, H, W)
        weights: Tensor = self.map(self.sigmoid(self.norm(self.conv(both))))  # (B, 1, H, W)
        return x * weights


class Cbam(nn.Module):
    """Convolutional block attention module (Woo et al. 2018, equation 1): channels, then positions."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels)
        self.spatial = SpatialAttention(norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.spatial(self.channel(x))
        return out


class SpatialSoftmax(nn.Module):
    """Scores each position, and multiplies the features x by H W softmax(scores): equal scores change nothing.

    So it begins, with all scores zero, and the network around it as if there were no attention. A score is
    w x / (1 + r), r the root mean square of x over channels. Without r, features that attention made larger score
    higher in the next block, and at the residual networks' learning rate this grows to infinity within some steps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1, bias=False)  # a bias would be the same for all positions
        nn.init.zeros_(self.score.weight)
        self.map = AttentionMap()

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        r = torch.linalg.vector_norm(x, dim=1, keepdim=True) / channels**0.5
        scores = self.score(x) / (1 + r)  # (B, 1, H, W)
        weights: Tensor = self.map(scores.flatten(2).softmax(2).unflatten(2, (height, width)))
        return x * (height * width * weights).to(x.dtype)  # autocast has softmax in float32


def attention(name: Attention, channels: int, norm: Norm) -> nn.Module:
    """A new attention module for (B, channels, H, W), or nothing; `norm` is that of the network around it."""
    match name:
        case Attention.none:
            return nn.Identity()
        case Attention.se:
            return SqueezeExcitation(channels)
        case Attention.cbam:
            return Cbam(channels, norm)
        case Attention.spatial_softmax:
            return SpatialSoftmax(channels)
