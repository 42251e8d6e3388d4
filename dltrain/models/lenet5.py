"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, figure 2)."""

from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.models.blocks import ConvUnit, LinearUnit, output_layer


class LeNet5(nn.Module):
    """(B, C, 32, 32) -> (B, num_outputs) logits, 61,706 parameters for one channel and ten classes.

    What differs from the paper: C3 sees all maps of S2 (its table I connects 60 of 96 pairs), subsampling has no
    weights and no activation, tanh is not scaled, and the output is linear (softmax is in the loss) in place of RBF
    units.
    """

    def __init__(self, cfg: settings.LeNet5, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        channels, height, width = shape
        if (height, width) != (32, 32):
            raise ValueError(f"LeNet-5 takes images of 32x32, not {height}x{width}")
        act, norm = cfg.activation, cfg.norm
        self.c1 = ConvUnit(channels, 6, 5, act, norm)  # 6@28x28
        self.s2 = _pool(cfg.pool)  # 6@14x14
        self.c3 = ConvUnit(6, 16, 5, act, norm)  # 16@10x10
        self.s4 = _pool(cfg.pool)  # 16@5x5
        # in the paper a convolution; one whose kernel covers the whole map is a linear layer, and faster as one
        self.c5 = LinearUnit(16 * 5 * 5, 120, act, norm, cfg.dropout)  # 120
        self.f6 = LinearUnit(120, 84, act, norm, cfg.dropout)  # 84
        self.output = output_layer(84, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.s2(self.c1(images))  # (B, 6, 14, 14)
        x = self.s4(self.c3(x))  # (B, 16, 5, 5)
        x = self.c5(x.flatten(1))  # (B, 120)
        logits: Tensor = self.output(self.f6(x))
        return logits


def _pool(pool: settings.Pool) -> nn.Module:
    return nn.MaxPool2d(2) if pool is settings.Pool.max else nn.AvgPool2d(2)
