"""A CNN that classifies by what its inner layers attend to (Jetley, Lord, Lee, Torr 2018, "Learn to pay attention")."""

import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Compatibility, Norm
from dltrain.models.attention import AttentionMap
from dltrain.models.blocks import conv2d, dropout, initialize, norm2d, output_layer


def convolutions(inputs: int, width: int, number: int, norm: Norm) -> nn.Sequential:
    """(B, inputs, H, W) -> (B, width, H, W): 3x3 convolutions, each with its norm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(number):
        layers += [conv2d(inputs, width, 3, 1, norm, "fan_in"), norm2d(norm, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers)


class AttentionEstimator(nn.Module):
    """Section 3: local features (B, channels, h, w) and the global one (B, width) -> a sum of the local (B, width).

    The compatibility c_i of each local feature l_i with the global feature g is u . (l_i + g) or l_i . g; the attention
    weights a are the softmax of c over the h w positions, and the result is the sum of a_i l_i. Local features of
    another width are first mapped linearly to that of g. As u . g is the same for all positions, the softmax takes
    nothing from it: with u, the weights follow from the local features alone, and g learns nothing.
    """

    def __init__(self, channels: int, width: int, compatibility: Compatibility) -> None:
        super().__init__()
        self.project: nn.Module = nn.Identity()
        if channels != width:
            self.project = nn.Conv2d(channels, width, 1, bias=False)
            initialize(self.project, None)
        self.u: nn.Conv2d | None = None
        if compatibility is Compatibility.parametrized:
            self.u = nn.Conv2d(width, 1, 1, bias=False)
            initialize(self.u, None)
        self.map = AttentionMap()

    def forward(self, local: Tensor, g: Tensor) -> Tensor:
        features: Tensor = self.project(local)  # l: (B, width, h, w)
        height, width = features.shape[2:]
        if self.u is None:
            c = torch.bmm(g[:, None], features.flatten(2))  # (B, 1, h w)
        else:
            c = self.u(features + g[:, :, None, None]).flatten(2)
        a: Tensor = self.map(c.softmax(2).view(-1, 1, height, width))
        return (a * features).sum((2, 3))


class AttentionCNN(nn.Module):
    """(B, C, H, W), H and W at least 32 -> (B, num_outputs) logits.

    VGG-16's 13 convolutions, of which the first 7 are not pooled: the first two poolings are moved behind two further
    convolutions, so that the layers that attend see more positions (section 4). The mean over positions in front of the
    global feature is the paper's at 32x32, where one position is left, and takes other sizes too.
    """

    def __init__(self, cfg: settings.AttentionCNN, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        base, norm = cfg.base_channels, cfg.norm
        width = 8 * base
        self.conv1_2 = convolutions(shape[0], base, 2, norm)
        self.conv3_4 = convolutions(base, 2 * base, 2, norm)
        self.conv5_7 = convolutions(2 * base, 4 * base, 3, norm)
        self.pool7 = nn.MaxPool2d(2)
        self.conv8_10 = convolutions(4 * base, width, 3, norm)
        self.pool10 = nn.MaxPool2d(2)
        self.conv11_13 = convolutions(width, width, 3, norm)
        self.pool13 = nn.MaxPool2d(2)
        self.conv14 = convolutions(width, width, 1, norm)
        self.pool14 = nn.MaxPool2d(2)
        self.conv15 = convolutions(width, width, 1, norm)
        self.pool15 = nn.MaxPool2d(2)
        self.fc = nn.Linear(width, width)
        initialize(self.fc, None)
        channels = {"conv7": 4 * base, "conv10": width, "conv13": width}
        attending = list(channels)[-cfg.layers :]
        self.attention = nn.ModuleDict(
            {name: AttentionEstimator(channels[name], width, cfg.compatibility) for name in attending}
        )
        self.dropout = dropout(cfg.dropout)
        self.output = output_layer(cfg.layers * width, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        local = {}
        x = self.conv3_4(self.conv1_2(images))  # (B, 128, H, W) with base_channels=64
        local["conv7"] = x = self.conv5_7(x)  # (B, 256, H, W)
        local["conv10"] = x = self.conv8_10(self.pool7(x))  # (B, 512, H/2, W/2)
        local["conv13"] = x = self.conv11_13(self.pool10(x))  # (B, 512, H/4, W/4)
        x = self.pool14(self.conv14(self.pool13(x)))  # (B, 512, H/16, W/16)
        x = self.pool15(self.conv15(x))  # (B, 512, H/32, W/32)
        g = self.fc(x.mean((2, 3)))  # (B, 512)
        attended = [estimator(local[name], g) for name, estimator in self.attention.items()]  # (B, 512) each
        logits: Tensor = self.output(self.dropout(torch.cat(attended, 1)))
        return logits
