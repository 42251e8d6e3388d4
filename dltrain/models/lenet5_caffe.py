"""LeNet-5 as Caffe's MNIST example has it (Jia et al. 2014, `examples/mnist/lenet_train_test.prototxt`)."""

from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.models.blocks import dropout, norm1d, norm2d


class LeNet5Caffe(nn.Module):
    """(B, C, H, W) -> (B, num_outputs) logits, 431,080 parameters for 28x28 images of one channel and ten classes.

    The 20-50-500 network that Han et al. 2015 and the pruning literature after them call LeNet-5. Layer by layer the
    example's: the only activation is the ReLU behind ip1, none stands behind the convolutions; poolings round up, so
    that no row or column is left out (at 28x28 there is none); weights are drawn by Caffe's "xavier" filler, uniform
    with variance 1/fan-in; biases are zero.
    """

    def __init__(self, cfg: settings.LeNet5Caffe, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        channels, height, width = shape
        bias = cfg.norm is settings.Norm.none  # else the norm's shift replaces it
        self.conv1 = nn.Conv2d(channels, 20, 5, bias=bias)  # 20@24x24 for 28x28
        self.norm1 = norm2d(cfg.norm, 20)
        self.pool1 = nn.MaxPool2d(2, ceil_mode=True)  # 20@12x12
        self.conv2 = nn.Conv2d(20, 50, 5, bias=bias)  # 50@8x8
        self.norm2 = norm2d(cfg.norm, 50)
        self.pool2 = nn.MaxPool2d(2, ceil_mode=True)  # 50@4x4
        self.ip1 = nn.Linear(50 * _left(height) * _left(width), 500, bias=bias)  # "inner product", Caffe's linear layer
        self.norm3 = norm1d(cfg.norm, 500)
        self.relu1 = nn.ReLU()
        self.dropout = dropout(cfg.dropout)
        self.ip2 = nn.Linear(500, num_outputs)
        for layer in (self.conv1, self.conv2, self.ip1, self.ip2):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool1(self.norm1(self.conv1(images)))
        x = self.pool2(self.norm2(self.conv2(x)))
        x = self.dropout(self.relu1(self.norm3(self.ip1(x.flatten(1)))))  # (B, 500)
        logits: Tensor = self.ip2(x)
        return logits


def _left(side: int) -> int:
    """Of an image's side behind both convolutions and poolings."""
    return ((side - 4 + 1) // 2 - 4 + 1) // 2
