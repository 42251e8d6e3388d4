"""AlexNet (Krizhevsky, Sutskever, Hinton 2012, section 3; in one tower: Krizhevsky 2014)."""

from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Activation, AlexNetForm, Norm
from dltrain.models.blocks import (
    AdaptiveAveragePool,
    ConvUnit,
    LinearUnit,
    LocalResponseNorm,
    dropout,
    output_layer,
)

TORCHVISION = (
    (r"^features\.0\.", "conv1.conv."),
    (r"^features\.3\.", "conv2.conv."),
    (r"^features\.6\.", "conv3.conv."),
    (r"^features\.8\.", "conv4.conv."),
    (r"^features\.10\.", "conv5.conv."),
    (r"^classifier\.1\.", "fc6.linear."),
    (r"^classifier\.4\.", "fc7.linear."),
    (r"^classifier\.6\.", "fc8."),
)  # see torchvision_names.py; form=single
HIDDEN = 4096  # units of fc6 and fc7
HIDDEN_SMALL = 1024  # the same for small images
RELU = Activation.relu


class AlexNet(nn.Module):
    """(B, C, H, W) -> (B, num_outputs) logits; for three channels and 1,000 classes 61,100,840 parameters (single).

    form=paper has 60,965,224 at 227x227 (the paper says 224, which does not give its 55x55 maps): two groups in
    conv2, conv4 and conv5, which are the paper's two GPUs, and dropout behind fc6 and fc7 where torchvision's stands
    before them. Of other sizes fc6 takes the map that is left; form=single averages it to 6x6, as torchvision does.

    Weights are drawn by He et al. 2015, those of fc8 from N(0, 0.01), and biases are zero. The paper draws all from
    N(0, 0.01) and sets the biases of conv2, conv4, conv5 and of the hidden layers to 1.

    Batch norm is no part of either form; where asked for, it takes the place of the response normalization, as in
    Ioffe and Szegedy 2015, section 4.2.1. The latter reaches across both groups, as in Caffe's model of the paper.
    """

    def __init__(self, cfg: settings.AlexNet, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        channels, height, width = shape
        small, paper, norm = cfg.is_small((height, width)), cfg.form is AlexNetForm.paper, cfg.norm
        groups = 2 if paper else 1
        c1, c2, c3, c4, c5 = (96, 256, 384, 384, 256) if paper else (64, 192, 384, 256, 256)
        respond = paper and norm is Norm.none
        kernel, stride, padding = (5, 1, 2) if small else (11, 4, 0 if paper else 2)
        self.conv1 = ConvUnit(channels, c1, kernel, RELU, norm, stride, padding)  # paper: 96@55x55
        self.lrn1 = LocalResponseNorm() if respond else nn.Identity()
        self.pool1 = nn.MaxPool2d(3, stride=2)  # overlapping, section 3.4: 96@27x27
        self.conv2 = ConvUnit(c1, c2, 5, RELU, norm, padding=2, groups=groups)  # 256@27x27
        self.lrn2 = LocalResponseNorm() if respond else nn.Identity()
        self.pool2 = nn.MaxPool2d(3, stride=2)  # 256@13x13
        self.conv3 = ConvUnit(c2, c3, 3, RELU, norm, padding=1)  # 384@13x13, sees both groups
        self.conv4 = ConvUnit(c3, c4, 3, RELU, norm, padding=1, groups=groups)
        self.conv5 = ConvUnit(c4, c5, 3, RELU, norm, padding=1, groups=groups)  # 256@13x13
        self.pool5 = nn.MaxPool2d(3, stride=2)  # 256@6x6
        whole = small or paper  # fc6 takes the map as it is
        self.avgpool = nn.Identity() if whole else AdaptiveAveragePool((6, 6))
        sides = [_left(side, kernel, stride, padding) for side in (height, width)] if whole else [6, 6]
        hidden = HIDDEN_SMALL if small else HIDDEN
        self.drop5 = nn.Identity() if paper else dropout(cfg.dropout)
        self.fc6 = LinearUnit(c5 * sides[0] * sides[1], hidden, RELU, norm, cfg.dropout)
        self.fc7 = LinearUnit(hidden, hidden, RELU, norm, cfg.dropout if paper else 0.0)
        self.fc8 = output_layer(hidden, num_outputs, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool1(self.lrn1(self.conv1(images)))
        x = self.pool2(self.lrn2(self.conv2(x)))
        x = self.avgpool(self.pool5(self.conv5(self.conv4(self.conv3(x)))))
        x = self.fc7(self.fc6(self.drop5(x.flatten(1))))  # (B, 4096)
        logits: Tensor = self.fc8(x)
        return logits


def _left(side: int, kernel: int, stride: int, padding: int) -> int:
    """Of an image's side behind conv1 and the three poolings."""
    side = (side + 2 * padding - kernel) // stride + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
