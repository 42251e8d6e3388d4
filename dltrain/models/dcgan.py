"""DCGAN (Radford, Metz, Chintala 2015): a generator of images, and a discriminator that tells them from real ones."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import DiscriminatorNorm, Norm, UpSampling
from dltrain.models.blocks import norm2d

STD = 0.02  # of all weights at first (section 4), and of the norms' gains around 1 as in its authors' code
SLOPE = 0.2  # of the leak (section 4)
FIRST_ITERATIONS = 15  # of the power method, so that a network begins with about its norms


def stages(base_channels: int, side: int) -> tuple[int, list[int]]:
    """Side of the smallest map, and channels from there on: 64 -> 4, [1024, 512, 256, 128]; 28 -> 7, [256, 128]."""
    first = 7 if side == 28 else 4
    doublings = (side // first).bit_length() - 1  # the last one makes the image
    return first, [base_channels * 2**level for level in reversed(range(doublings))]


def _drawn(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.normal_(layer.weight, std=STD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _norm(name: Norm, channels: int) -> nn.Module:
    norm = norm2d(name, channels)
    if isinstance(norm, nn.BatchNorm2d):
        nn.init.normal_(norm.weight, 1.0, STD)
    return norm


# ---- generator


def up_convolution(inputs: int, outputs: int, up: UpSampling, bias: bool) -> nn.Module:
    """(B, inputs, H, W) -> (B, outputs, 2H, 2W).

    A 3x3 convolution behind a repetition looks at as many pixels as a fractionally-strided one of 4x4: it is one whose
    kernels are 3x3 ones blurred by 2x2. A sub-pixel convolution makes the four pixels of each position by kernels of
    their own, which are drawn alike, so that it begins without a checkerboard (Aitken et al. 2017).
    """
    if up is UpSampling.transpose:
        transposed = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)
        _drawn(transposed)
        return transposed
    if up is UpSampling.resize:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        _drawn(conv)
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv)
    conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1, bias=bias)
    _drawn(conv)
    with torch.no_grad():
        conv.weight.copy_(conv.weight[::4].repeat_interleave(4, 0))
    return nn.Sequential(conv, nn.PixelShuffle(2))


class Project(nn.Module):
    """Project and reshape: (B, inputs) -> (B, outputs, side, side), norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int, norm: Norm) -> None:
        super().__init__()
        self.shape = (outputs, side, side)
        self.linear = nn.Linear(inputs, outputs * side * side, bias=norm is Norm.none)
        self.norm = _norm(norm, outputs)
        self.relu = nn.ReLU()
        _drawn(self.linear)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.linear(z).unflatten(1, self.shape)))
        return out


class Up(nn.Module):
    """Up-sampling by a convolution, norm, ReLU: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, up: UpSampling, norm: Norm) -> None:
        super().__init__()
        self.conv = up_convolution(inputs, outputs, up, bias=norm is Norm.none)
        self.norm = _norm(norm, outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.conv(x)))
        return out


class Generator(nn.Module):
    """(B, latent_dim) standard normal -> (B, C, H, W) in -1 to 1. 12,658,432 parameters at 3x64x64."""

    def __init__(self, cfg: settings.DCGAN, shape: tuple[int, int, int]) -> None:
        super().__init__()
        first, widths = stages(cfg.base_channels, shape[1])
        self.project = Project(cfg.latent_dim, widths[0], first, cfg.norm)
        self.ups = nn.Sequential(*(Up(inputs, outputs, cfg.up, cfg.norm) for inputs, outputs in pairwise(widths)))
        self.output = up_convolution(widths[-1], shape[0], cfg.up, bias=False)
        self.tanh = nn.Tanh()

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z)  # (B, 1024, 4, 4)
        x = self.ups(x)  # (B, 128, 32, 32)
        images: Tensor = self.tanh(self.output(x))
        return images


# ---- discriminator


class SpectralNorm(nn.Module):
    """W -> W / sigma, the largest singular value of W as (outputs, rest), by the power method (Miyato et al. 2018).

    With u held, sigma = |W^T u|, which is u^T W v of the paper's algorithm 1, and has its gradient u v^T. `advance`
    alone changes u. Sums of products, not matrix products: autocast would take those in half precision.
    """

    u: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("u", F.normalize(nn.init.normal_(weight.new_empty(len(weight))), dim=0))
        for _ in range(0 if weight.is_meta else FIRST_ITERATIONS):
            self.advance(weight)

    @torch.no_grad()
    def advance(self, weight: Tensor) -> None:
        """One iteration: v = W^T u / |W^T u|, u = W v / |W v|."""
        matrix = weight.flatten(1)
        v = F.normalize((matrix * self.u[:, None]).sum(0), dim=0)
        self.u.copy_(F.normalize((matrix * v).sum(1), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        u = self.u.clone()  # the next iteration must not change what this pass is differentiated by
        sigma = torch.linalg.vector_norm((weight.flatten(1) * u[:, None]).sum(0))
        normed: Tensor = weight / sigma
        return normed


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weights, one row an output, have a largest singular value of 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, bias=bias)
        _drawn(self)
        self.spectral = SpectralNorm(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.spectral(self.weight), self.bias, self.stride, self.padding)


class SpectralLinear(nn.Linear):
    """A linear layer whose weights have a largest singular value of 1."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, bias=bias)
        _drawn(self)
        self.spectral = SpectralNorm(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.spectral(self.weight), self.bias)


class Down(nn.Module):
    """4x4 convolution of stride 2, norm, leaky ReLU: (B, inputs, H, W) -> (B, outputs, H/2, W/2).

    Batch norm keeps no statistics: it always takes those of the batch at hand, so that a pass leaves no trace.
    """

    def __init__(self, inputs: int, outputs: int, norm: DiscriminatorNorm, bias: bool) -> None:
        super().__init__()
        if norm is DiscriminatorNorm.spectral:
            self.conv: nn.Conv2d = SpectralConv2d(inputs, outputs, 4, 2, 1, bias)
        else:
            self.conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias)
            _drawn(self.conv)
        self.norm: nn.Module = nn.Identity()
        if norm is DiscriminatorNorm.batch:
            self.norm = nn.BatchNorm2d(outputs, track_running_stats=False)
            nn.init.normal_(self.norm.weight, 1.0, STD)
        self.leaky_relu = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.leaky_relu(self.norm(self.conv(x)))
        return out


class Discriminator(nn.Module):
    """(B, C, H, W) -> (B,) logits: above 0 for real images.

    A pass of its own training, whose images need no gradient, takes one step of the spectral norms' power method. A
    pass that is differentiated by its images (the generator's update, a gradient penalty), one without gradients and
    one in evaluation change no bit of it.
    """

    def __init__(self, cfg: settings.DCGAN, shape: tuple[int, int, int]) -> None:
        super().__init__()
        first, widths = stages(cfg.base_channels, shape[1])
        widths, norm = widths[::-1], cfg.discriminator_norm
        bias = norm is not DiscriminatorNorm.batch  # which has shifts in its place
        plain = DiscriminatorNorm.none if norm is DiscriminatorNorm.batch else norm
        self.first = Down(shape[0], widths[0], plain, bias)
        self.downs = nn.Sequential(*(Down(inputs, outputs, norm, bias) for inputs, outputs in pairwise(widths)))
        flat = widths[-1] * first * first
        self.output: nn.Linear
        if norm is DiscriminatorNorm.spectral:
            self.output = SpectralLinear(flat, 1, bias=False)
        else:
            self.output = nn.Linear(flat, 1, bias=False)
            _drawn(self.output)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and not images.requires_grad:
            for layer in self.modules():
                if isinstance(layer, SpectralConv2d | SpectralLinear):
                    layer.spectral.advance(layer.weight)
        x = self.first(images)  # (B, 128, 32, 32) of 64x64
        x = self.downs(x)  # (B, 1024, 4, 4)
        logits: Tensor = self.output(x.flatten(1)).squeeze(1)
        return logits


class DCGAN(nn.Module):
    """Both networks; called, it generates: (B, latent_dim) -> (B, C, H, W). `num_outputs` plays no part."""

    def __init__(self, cfg: settings.DCGAN, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        if not cfg.takes(shape[1:]):
            raise ValueError(f"images of {shape[1]}x{shape[2]}: it makes {cfg.sizes(shape[1:])}")
        self.latent_dim = cfg.latent_dim
        self.shape = shape
        self.generator = Generator(cfg, shape)
        self.discriminator = Discriminator(cfg, shape)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.generator(z)
        return images
