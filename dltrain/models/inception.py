"""Inception v1, GoogLeNet (Szegedy et al. 2014, "Going deeper with convolutions", table 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Activation, InceptionForm, Norm
from dltrain.models.blocks import (
    AdaptiveAveragePool,
    LocalResponseNorm,
    conv2d,
    dropout,
    initialize,
    output_layer,
)
from dltrain.models.outputs import Outputs

TORCHVISION = (
    (r"^conv2\.", "conv2_reduce."),
    (r"^conv3\.", "conv2."),
    (r"^(inception\d\w)\.branch1\.", r"\1.conv1x1."),
    (r"^(inception\d\w)\.branch2\.0\.", r"\1.conv3x3_reduce."),
    (r"^(inception\d\w)\.branch2\.1\.", r"\1.conv3x3."),
    (r"^(inception\d\w)\.branch3\.0\.", r"\1.conv5x5_reduce."),
    (r"^(inception\d\w)\.branch3\.1\.", r"\1.conv5x5."),
    (r"^(inception\d\w)\.branch4\.1\.", r"\1.pool_proj."),
    (r"^aux(\d)\.", r"auxiliary\1."),
)  # see torchvision_names.py

AUXILIARY_DROPOUT = 0.7  # section 5


class Conv(nn.Module):
    """Convolution that keeps the size at stride 1, norm (eps 0.001 as in torchvision), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        self.conv = conv2d(inputs, outputs, kernel, stride, norm, "fan_in")
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3) if norm is Norm.batch else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Inception(nn.Module):
    """Figure 2b: (B, C, H, W) -> (B, n1x1 + n3x3 + n5x5 + pool_proj, H, W), four branches side by side.

    The numbers are channels, in the order of table 1's columns. torchvision's `conv5x5` has 3x3 kernels, a mistake of
    the network it was ported from that is kept for its weights (pytorch/vision#906).
    """

    def __init__(
        self,
        inputs: int,
        n1x1: int,
        n3x3_reduce: int,
        n3x3: int,
        n5x5_reduce: int,
        n5x5: int,
        pool_proj: int,
        *,
        norm: Norm,
        form: InceptionForm,
    ) -> None:
        super().__init__()
        self.conv1x1 = Conv(inputs, n1x1, 1, norm)
        self.conv3x3_reduce = Conv(inputs, n3x3_reduce, 1, norm)
        self.conv3x3 = Conv(n3x3_reduce, n3x3, 3, norm)
        self.conv5x5_reduce = Conv(inputs, n5x5_reduce, 1, norm)
        self.conv5x5 = Conv(n5x5_reduce, n5x5, 5 if form is InceptionForm.paper else 3, norm)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool_proj = Conv(inputs, pool_proj, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.conv1x1(x),
            self.conv3x3(self.conv3x3_reduce(x)),
            self.conv5x5(self.conv5x5_reduce(x)),
            self.pool_proj(self.pool(x)),
        )
        return torch.cat(branches, 1)


class PaperAveragePool(AdaptiveAveragePool):
    """Section 5's 5x5 average pooling of stride 3 where it gives (B, C, 4, 4), else means over 4x4 parts."""

    def __init__(self) -> None:
        super().__init__((4, 4))

    def forward(self, x: Tensor) -> Tensor:
        if all(14 <= side <= 16 for side in x.shape[2:]):
            return F.avg_pool2d(x, 5, stride=3)
        return super().forward(x)


class AuxiliaryClassifier(nn.Module):
    """Section 5: (B, C, H, W) -> (B, num_outputs) logits from an inner layer."""

    def __init__(self, inputs: int, num_outputs: int, *, norm: Norm, form: InceptionForm) -> None:
        super().__init__()
        self.pool = PaperAveragePool() if form is InceptionForm.paper else AdaptiveAveragePool((4, 4))
        self.conv = Conv(inputs, 128, 1, norm)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU()
        self.dropout = dropout(AUXILIARY_DROPOUT)
        self.fc2 = output_layer(1024, num_outputs, std=0.01)
        initialize(self.fc1, Activation.relu)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x))  # (B, 128, 4, 4)
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(x.flatten(1)))))
        return logits


class InceptionV1(nn.Module):
    """(B, C, H, W) -> (B, num_outputs) logits; in training Outputs with those of both auxiliary classifiers.

    13,004,888 parameters in torchvision's form for three channels and 1,000 classes, 6,380,000 of them in the
    auxiliary classifiers. The paper gives no numbers of its response normalization; these are of the replication that
    its first author helped with (BVLC's Caffe GoogLeNet): n 5, k 1, beta 0.75, alpha 1e-4, which Caffe divides by n.
    """

    def __init__(self, cfg: settings.InceptionV1, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        channels, height, width = shape
        small = cfg.stem.is_small((height, width))
        norm = Norm.batch if cfg.norms_batches else Norm.none
        paper = cfg.form is InceptionForm.paper

        def response_norm() -> nn.Module:  # batch norm takes its place (Ioffe and Szegedy 2015, section 4.2.1)
            used = paper and norm is Norm.none
            return LocalResponseNorm(n=5, k=1.0, alpha=1e-4 / 5, beta=0.75) if used else nn.Identity()

        def inception(*channels: int) -> Inception:
            return Inception(*channels, norm=norm, form=cfg.form)

        self.conv1 = Conv(channels, 64, 3, norm) if small else Conv(channels, 64, 7, norm, stride=2)
        self.pool1 = nn.Identity() if small else nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = response_norm()
        self.conv2_reduce = Conv(64, 64, 1, norm)
        self.conv2 = Conv(64, 192, 3, norm)
        self.norm2 = response_norm()
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = inception(256, 128, 128, 192, 32, 96, 64)
        self.pool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = inception(528, 256, 160, 320, 32, 128, 128)
        self.pool4 = nn.MaxPool2d(3 if paper else 2, stride=2, ceil_mode=True)
        self.inception5a = inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = inception(832, 384, 192, 384, 48, 128, 128)
        self.auxiliary_weight = cfg.auxiliary_weight
        self.auxiliary1: AuxiliaryClassifier | None = None
        self.auxiliary2: AuxiliaryClassifier | None = None
        if cfg.auxiliary_weight is not None:
            self.auxiliary1 = AuxiliaryClassifier(512, num_outputs, norm=norm, form=cfg.form)
            self.auxiliary2 = AuxiliaryClassifier(528, num_outputs, norm=norm, form=cfg.form)
        self.dropout = dropout(cfg.dropout)
        self.fc = output_layer(1024, num_outputs, std=0.01)  # made last: so clip=agc finds it

    def forward(self, images: Tensor) -> Tensor | Outputs:
        auxiliary: list[Tensor] = []
        x = self.norm1(self.pool1(self.conv1(images)))  # (B, 64, H/4, W/4); small images: H, W
        x = self.pool2(self.norm2(self.conv2(self.conv2_reduce(x))))  # (B, 192, H/8, W/8); small: H/2, W/2
        x = self.pool3(self.inception3b(self.inception3a(x)))  # (B, 480, H/16, W/16); small: H/4, W/4
        x = self.inception4a(x)
        if self.training and self.auxiliary1 is not None:
            auxiliary.append(self.auxiliary1(x))
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        if self.training and self.auxiliary2 is not None:
            auxiliary.append(self.auxiliary2(x))
        x = self.pool4(self.inception4e(x))  # (B, 832, H/32, W/32); small: H/8, W/8
        x = self.inception5b(self.inception5a(x))
        logits: Tensor = self.fc(self.dropout(x.mean((2, 3))))  # the average over positions: (B, 1024)
        if self.auxiliary_weight is None or not auxiliary:
            return logits
        return Outputs(logits, tuple(auxiliary), self.auxiliary_weight)
