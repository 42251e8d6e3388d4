"""How far the outputs of a network look, by their gradients."""

import torch
from torch import Tensor, nn


def round_up(value: int, to: int) -> int:
    return -(-value // to) * to


def reach(net: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Rows of the image that outputs depend on: above the first row of a part, and below its last row.

    The part begins at a multiple of the network's stride, ends as answers to whole images do, and is far from the
    image's borders. Weights are made positive and poolings averages, so that no gradient is zero by chance. Columns
    must look as far as rows.
    """
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            net.set_submodule(name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    net = net.double().eval()
    for p in net.parameters():
        nn.init.uniform_(p, 0.1, 0.9) if p.ndim > 1 else nn.init.constant_(p, 0.1)
    found = {_rows(net, torch.ones(1, 1, *size, dtype=torch.float64), across) for across in (False, True)}
    assert len(found) == 1, found
    return found.pop()


def _rows(net: nn.Module, image: Tensor, across: bool) -> tuple[int, int]:
    image = (image.mT if across else image).contiguous().requires_grad_()
    out = net(image)[0, 0]
    out, lost = (out.mT if across else out), net.sides.lost  # type: ignore[union-attr]
    stride = net.sides.stride  # type: ignore[union-attr]
    first = out.shape[0] // 2 // stride * stride
    last = first + (out.shape[0] - 1) % stride
    seen = []
    for row in (first, last):
        (gradient,) = torch.autograd.grad(out[row].sum(), image, retain_graph=True)
        rows = gradient[0, 0].sum(0 if across else 1).nonzero().flatten()
        seen.append((int(rows.min()), int(rows.max())))
    assert seen[0][0] > 0
    assert seen[1][1] < max(image.shape) - 1
    return first + lost - seen[0][0], seen[1][1] - last - lost
