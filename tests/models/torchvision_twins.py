"""A network of ours beside torchvision's of the same weights, in float64."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dltrain.models.outputs import split
from dltrain.models.torchvision_names import Names, from_torchvision

CLASSES = 5


def without_dropout(network: nn.Module) -> nn.Module:
    """The network, with every dropout's share 0."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    """A network of torchvision's in float64, each weight, scale and shift drawn.

    It is made without memory, so without its own initialization, which takes longer than the whole comparison.
    """
    torch.manual_seed(0)
    with torch.device("meta"):
        network = make()
    network = network.double().to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
    return network


def close(ours: Tensor, theirs: Tensor, what: str) -> None:
    """Within 1e-9 of the largest element."""
    assert ours.shape == theirs.shape, what
    largest = theirs.abs().max().item()
    assert largest > 0, what
    assert (ours - theirs).abs().max().item() <= 1e-9 * largest, what


def assert_twins(ours: nn.Module, theirs: nn.Module, names: Names, size: tuple[int, int], batch: int = 2) -> None:
    """Equal outputs in evaluation; equal outputs, loss and input gradients in training with dropout off.

    `theirs` shares its weights with `ours`, which may be an outline, strictly, by `names`. Statistics of batch norm are
    made to differ from 0, 1.
    """
    torch.manual_seed(0)
    ours, theirs = without_dropout(ours.double()), without_dropout(theirs.double())
    images = torch.randn(batch, 3, *size, dtype=torch.float64)
    targets = torch.arange(batch) % CLASSES
    theirs.train()
    with torch.no_grad():
        theirs(torch.randn(batch, 3, *size, dtype=torch.float64) * 2 + 1)  # moves the statistics
    weights = dict(theirs.named_parameters())
    state = {name: value if name in weights else value.clone() for name, value in theirs.state_dict().items()}
    ours.load_state_dict(from_torchvision(state, names), strict=True, assign=True)
    with torch.no_grad():
        close(ours.eval()(images), theirs.eval()(images), "outputs in evaluation")
    found = []
    for network in (ours.train(), theirs.train()):
        x = images.clone().requires_grad_()
        out = network(x)
        heads = (out.logits, *_auxiliary(out)) if not isinstance(out, Tensor) else (out,)
        losses = [nn.functional.cross_entropy(head, targets) for head in heads]
        loss = losses[0] + 0.3 * sum(losses[1:])
        found.append((heads, loss, *torch.autograd.grad(loss, x)))
    assert len(found[0][0]) == len(found[1][0])
    for number, (a, b) in enumerate(zip(found[0][0], found[1][0], strict=True)):
        close(a, b, f"outputs in training, head {number}")
    close(found[0][1], found[1][1], "loss")
    close(found[0][2], found[1][2], "gradient of the images")
    after = from_torchvision(dict(theirs.named_buffers()), names)
    for name, value in ours.named_buffers():
        close(value + 1, after[name] + 1, f"{name} after training")


def _auxiliary(out: object) -> tuple[Tensor, ...]:
    """Of our Outputs, or of torchvision's GoogLeNetOutputs (logits, aux_logits2, aux_logits1): the earlier first."""
    if hasattr(out, "auxiliary"):
        _, auxiliary, _ = split(out)  # type: ignore[arg-type]
        return auxiliary
    return out.aux_logits1, out.aux_logits2  # type: ignore[attr-defined]
