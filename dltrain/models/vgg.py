"""VGG (Simonyan and Zisserman 2015, table 1)."""

from collections import OrderedDict

from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Activation, Attention, Norm
from dltrain.models.attention import attention
from dltrain.models.blocks import AdaptiveAveragePool, dropout, initialize, norm2d, output_layer
from dltrain.models.torchvision_names import Names

HIDDEN = 4096  # units of fc6 and fc7
WIDEST = 8  # times the first stage's channels


class Conv(nn.Module):
    """3x3 convolution, norm, ReLU, attention: (B, inputs, H, W) -> (B, outputs, H, W).

    The convolution keeps its bias before a batch norm too, as torchvision's does.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, attend: Attention) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = norm2d(norm, outputs)
        self.relu = nn.ReLU()
        self.attention = attention(attend, outputs, norm)
        initialize(self.conv, Activation.relu)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(self.relu(self.norm(self.conv(x))))
        return out


class LargeHead(nn.Module):
    """Averages over 7x7 parts, fc6, fc7, fc8: (B, C, H, W) -> (B, num_outputs)."""

    def __init__(self, channels: int, num_outputs: int, drop: float) -> None:
        super().__init__()
        self.avgpool = AdaptiveAveragePool((7, 7))  # the paper's 224x224 leave 7x7
        self.fc6 = nn.Linear(channels * 7 * 7, HIDDEN)
        self.relu6 = nn.ReLU()
        self.drop6 = dropout(drop)
        self.fc7 = nn.Linear(HIDDEN, HIDDEN)
        self.relu7 = nn.ReLU()
        self.drop7 = dropout(drop)
        self.fc8 = output_layer(HIDDEN, num_outputs, std=0.01)
        initialize(self.fc6, Activation.relu)
        initialize(self.fc7, Activation.relu)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop6(self.relu6(self.fc6(self.avgpool(x).flatten(1))))  # (B, 4096)
        x = self.drop7(self.relu7(self.fc7(x)))
        logits: Tensor = self.fc8(x)
        return logits


class SmallHead(nn.Module):
    """The average over positions and one linear layer: (B, C, H, W) -> (B, num_outputs)."""

    def __init__(self, channels: int, num_outputs: int, drop: float) -> None:
        super().__init__()
        self.dropout = dropout(drop)
        self.fc = output_layer(channels, num_outputs, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return logits


class VGG(nn.Module):
    """(B, C, H, W) -> (B, num_outputs) logits; VGG-16 has 138,357,544 parameters for three channels, 1,000 classes.

    Weights are drawn by He et al. 2015, those of the last layer from N(0, 0.01). The paper draws all from N(0, 0.01),
    which trains network A only, and begins the deeper ones from its weights (section 3.1).
    """

    def __init__(self, cfg: settings.VGG, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        inputs, height, width = shape
        self.stages = nn.ModuleList()
        for stage, convs in enumerate(cfg.convs):
            outputs = cfg.base_channels * min(2**stage, WIDEST)
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for number in range(1, convs + 1):
                layers[f"conv{number}"] = Conv(inputs, outputs, cfg.norm, cfg.attention)
                inputs = outputs
            layers["pool"] = nn.MaxPool2d(2)
            self.stages.append(nn.Sequential(layers))
        head = SmallHead if cfg.head.is_small((height, width)) else LargeHead
        self.head = head(inputs, num_outputs, cfg.dropout)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for stage in self.stages:
            x = stage(x)  # half the size each; 64, 128, 256, 512, 512 channels
        logits: Tensor = self.head(x)
        return logits


def torchvision_names(cfg: settings.VGG) -> Names:
    """torchvision's names and ours, see torchvision_names.py; for head=large.

    No constant here, since torchvision numbers all layers of the features in one row: convolution, batch norm if any,
    ReLU, and a pooling behind each stage.
    """
    names = []
    at = 0
    for stage, convs in enumerate(cfg.convs):
        for number in range(1, convs + 1):
            ours = f"stages.{stage}.conv{number}"
            names.append((rf"^features\.{at}\.", f"{ours}.conv."))
            at += 1
            if cfg.norm is Norm.batch:
                names.append((rf"^features\.{at}\.", f"{ours}.norm."))
                at += 1
            at += 1  # ReLU
        at += 1  # pooling
    head = [(rf"^classifier\.{at}\.", f"head.{ours}.") for at, ours in ((0, "fc6"), (3, "fc7"), (6, "fc8"))]
    return (*names, *head)
