"""ResNet for photographs (He, Zhang, Ren, Sun 2015, table 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Attention, Norm
from dltrain.models.attention import attention
from dltrain.models.blocks import conv2d, dropout, norm2d

TORCHVISION = (
    (r"^layer1\.(\d+)\.downsample", r"stages.0.\1.shortcut"),
    (r"^layer2\.(\d+)\.downsample", r"stages.1.\1.shortcut"),
    (r"^layer3\.(\d+)\.downsample", r"stages.2.\1.shortcut"),
    (r"^layer4\.(\d+)\.downsample", r"stages.3.\1.shortcut"),
    (r"^layer1", "stages.0"),
    (r"^layer2", "stages.1"),
    (r"^layer3", "stages.2"),
    (r"^layer4", "stages.3"),
)  # see torchvision_names.py
EXPANSION = 4  # of a bottleneck block: its outputs are four times as wide as its 3x3 convolution


class BasicBlock(nn.Module):
    """Figure 5, left: (B, C, H, W) -> (B, width, H/stride, W/stride), two 3x3 convolutions beside a shortcut.

    Without a shortcut it is two layers of the plain network.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm, attend: Attention, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = conv2d(inputs, width, 3, stride, norm)
        self.bn1 = norm2d(norm, width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv2d(width, width, 3, 1, norm)
        self.bn2 = norm2d(norm, width)
        self.attention = attention(attend, width, norm)
        self.shortcut = shortcut
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.attention(self.bn2(self.conv2(y)))
        out: Tensor = self.relu2(y if self.shortcut is None else y + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """Figure 5, right: (B, C, H, W) -> (B, 4 width, H/stride, W/stride), 1x1, 3x3 and 1x1 convolutions.

    The stride is on the 3x3 convolution, as in torchvision ("ResNet v1.5"); the paper has it on the first 1x1.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm, attend: Attention, shortcut: nn.Module
    ) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = conv2d(inputs, width, 1, 1, norm)
        self.bn1 = norm2d(norm, width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv2d(width, width, 3, stride, norm)
        self.bn2 = norm2d(norm, width)
        self.relu2 = nn.ReLU()
        self.conv3 = conv2d(width, outputs, 1, 1, norm)
        self.bn3 = norm2d(norm, outputs)
        self.attention = attention(attend, outputs, norm)
        self.shortcut = shortcut
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.attention(self.bn3(self.conv3(y)))
        out: Tensor = self.relu3(y + self.shortcut(x))
        return out


def projection(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    """Option B of section 3.3: a 1x1 convolution where the shape changes, else the identity."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(conv2d(inputs, outputs, 1, stride, norm), norm2d(norm, outputs))


def shrink_branches(last: Sequence[nn.Conv2d]) -> None:
    """Makes the last convolution of each of L branches smaller by the square root of L, for networks without a norm.

    Else the sums at the shortcuts double from block to block (Hayou et al. 2021, "Stable ResNet", section 3).
    """
    with torch.no_grad():
        for conv in last:
            conv.weight /= len(last) ** 0.5


class Trunk(nn.Module):
    """All of a ResNet but its last layer: (B, C, H, W) -> (B, width, H/32, W/32), small images H/8, W/8.

    A U-Net takes it as its contracting path, under the same names.
    """

    def __init__(
        self,
        channels: int,
        base: int,
        blocks: Sequence[int],
        norm: Norm,
        attend: Attention,
        bottleneck: bool,
        small: bool,
    ) -> None:
        super().__init__()
        self.conv1 = conv2d(channels, base, 3, 1, norm) if small else conv2d(channels, base, 7, 2, norm)
        self.bn1 = norm2d(norm, base)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        block = Bottleneck if bottleneck else BasicBlock
        expansion = EXPANSION if bottleneck else 1
        self.stages = nn.ModuleList()
        self.width, last = base, list[nn.Conv2d]()
        for stage, number_of_blocks in enumerate(blocks):
            width, layers = base * 2**stage, nn.Sequential()
            for number in range(number_of_blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                shortcut = projection(self.width, expansion * width, stride, norm)
                layer = block(self.width, width, stride, norm, attend, shortcut)
                layers.append(layer)
                last.append(layer.conv3 if isinstance(layer, Bottleneck) else layer.conv2)
                self.width = expansion * width
            self.stages.append(layers)
        if norm is Norm.none:
            shrink_branches(last)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H/4, W/4); small images: H, W
        for stage in self.stages:
            x = stage(x)  # half the size and twice the channels from the second stage on
        return x


class ResNet(Trunk):
    """(B, C, H, W) -> (B, num_outputs) logits; ResNet-18 has 11,689,512 parameters for three channels, 1,000 classes.

    Images of up to 64 pixels get a 3x3 first convolution of stride 1 and no pooling behind it.
    """

    def __init__(self, cfg: settings.ResNet, shape: tuple[int, int, int], num_outputs: int) -> None:
        small = cfg.stem.is_small(shape[1:])
        super().__init__(shape[0], cfg.base_channels, cfg.blocks, cfg.norm, cfg.attention, cfg.bottleneck, small)
        self.dropout = dropout(cfg.dropout)
        self.fc = nn.Linear(self.width, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = super().forward(images)
        logits: Tensor = self.fc(self.dropout(x.mean((2, 3))))  # the average over positions: (B, 512)
        return logits
