"""A U-Net (Ronneberger et al. 2015) with a ResNet (He et al. 2015) as its contracting path."""

from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Attention, Padding
from dltrain.models.blocks import dropout
from dltrain.models.resnet import Trunk
from dltrain.models.unet import Expand, pixel_output


class UNetResNet(Trunk):
    """(B, C, H, W) -> (B, num_outputs, H, W) logits.

    The contracting path has the names of the classifier's parameters, so a state dict of a ResNet with the same stem
    loads into it with strict=False. What it had at each size is copied: behind the stem, if that halves the size, and
    behind each stage but the last. Behind a stem that halves it twice, the last level has no copy. `sides`
    as in UNet.
    """

    def __init__(self, cfg: settings.UNetResNet, shape: tuple[int, int, int], num_outputs: int) -> None:
        channels, size = shape[0], shape[1:]
        small = cfg.stem.is_small(size)
        super().__init__(
            channels, cfg.base_channels, cfg.blocks, cfg.norm, Attention.none, bottleneck=False, small=small
        )
        self.sides = cfg.geometry(size)
        self.small = small
        self.dropout = dropout(cfg.dropout)
        widths = [cfg.base_channels * 2**stage for stage in range(len(cfg.blocks))]  # 64, 128, 256, 512
        levels = [(width, width) for width in reversed(widths[:-1])]  # channels copied, and outputs
        if not small:
            levels += [(cfg.base_channels, cfg.base_channels), (0, max(1, cfg.base_channels // 2))]
        self.expanding = nn.ModuleList()
        inputs = widths[-1]
        for copied, outputs in levels:
            self.expanding.append(Expand(inputs, copied, outputs, cfg.norm, cfg.up, Padding.same))
            inputs = outputs
        self.output = pixel_output(inputs, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))  # (B, 64, H/2, W/2); small images: H, W
        copies: list[Tensor | None] = [] if self.small else [None, x]
        x = self.maxpool(x)
        for stage in self.stages:
            x = stage(x)
            copies.append(x)
        x = self.dropout(x)  # (B, 512, H/32, W/32); small images: H/8, W/8
        copies.pop()
        for expand in self.expanding:
            x = expand(x, copies.pop())  # twice the size
        logits: Tensor = self.output(x)
        return logits
