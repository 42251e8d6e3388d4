"""ResNet for CIFAR (He, Zhang, Ren, Sun 2015, section 4.2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Norm, Shortcut
from dltrain.models.blocks import conv2d, dropout, norm2d
from dltrain.models.resnet import BasicBlock, projection, shrink_branches


class ZeroPadding(nn.Module):
    """Option A: every second position, and zeros for the new channels, half of them before and half behind.

    (B, inputs, H, W) -> (B, outputs, ceil(H/stride), ceil(W/stride)), without a parameter.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before = (outputs - inputs) // 2
        self.behind = outputs - inputs - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


def shortcut(cfg: settings.CifarResNet, inputs: int, width: int, stride: int) -> nn.Module | None:
    """Beside a block: option A or B where the shape changes, else the identity; None in the plain network."""
    if not cfg.residual:
        return None
    if cfg.shortcut is Shortcut.B:
        return projection(inputs, width, stride, cfg.norm)
    return nn.Identity() if inputs == width else ZeroPadding(inputs, width, stride)


class CifarResNet(nn.Module):
    """(B, C, H, W) -> (B, num_outputs) logits; ResNet-20 has 269,722 parameters for three channels and ten classes."""

    def __init__(self, cfg: settings.CifarResNet, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        base, norm = cfg.base_channels, cfg.norm
        self.conv1 = conv2d(shape[0], base, 3, 1, norm)
        self.bn1 = norm2d(norm, base)
        self.relu = nn.ReLU()
        self.stages = nn.ModuleList()
        inputs, last = base, list[nn.Conv2d]()
        for stage in range(3):
            width, layers = base * 2**stage, nn.Sequential()
            for number in range(cfg.n):
                stride = 2 if stage > 0 and number == 0 else 1
                beside = shortcut(cfg, inputs, width, stride)
                block = BasicBlock(inputs, width, stride, norm, cfg.attention, beside)
                layers.append(block)
                last.append(block.conv2)
                inputs = width
            self.stages.append(layers)
        self.dropout = dropout(cfg.dropout)
        self.fc = nn.Linear(inputs, num_outputs)
        if cfg.residual and norm is Norm.none:
            shrink_branches(last)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))  # (B, 16, H, W)
        for stage in self.stages:
            x = stage(x)  # (B, 16, H, W), (B, 32, H/2, W/2), (B, 64, H/4, W/4)
        logits: Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return logits
