"""Our networks in training against torchvision's modules with the same weights, in the same loop.

Both take `dltrain`'s own steps over the same batch of noise: shapes, precision, memory format, optimizer and
determinism are the same, and their rounds alternate, so that what else the machine does falls on both. Prints images/s,
and ours / theirs with its spread over the rounds; ours alone where torchvision has no such network.

    python benchmarks/networks.py [NAME …] [--precision fp32 bf16 fp16] [--compile] [--size 224] [--batch 32]
        [--rounds 7] [--seconds 2] [--threads 2] [--device auto]

Under `determinism=exact` torchvision's adaptive pooling has no backward on a GPU: there its module runs all the same.
"""

import argparse
import gc
import importlib
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from noise import Training, machine
from torch import Tensor, nn

from dltrain.config import table
from dltrain.config.compose import compose
from dltrain.config.model import SMALL, Model
from dltrain.models import build_model
from dltrain.models.outputs import Outputs
from dltrain.models.torchvision_names import Names, from_torchvision

PEERS = {"alexnet": "alexnet", "inception_v1": "googlenet"} | {
    name: name for name in table.options("model") if name.startswith(("vgg", "resnet"))
}
SIDES = {"mlp": 28, "mlp_300_100": 28, "lenet5_caffe": 28, "dcgan": 64}
PHOTOGRAPHS = ("alexnet", "inception_v1", "vgg", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class Googlenet(nn.Module):
    """torchvision's, with its outputs as our tasks take them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        out = self.network(images)
        return Outputs(out.logits, (out.aux_logits1, out.aux_logits2), 0.3)


def names_of(cfg: Model) -> Names:
    """The mapping in the network's file: a constant, or a function of the settings."""
    module = importlib.import_module(f"dltrain.models.{cfg.builds.partition(':')[0]}")
    function: Callable[[Any], Names] | None = getattr(module, "torchvision_names", None)
    names: Names = module.TORCHVISION if function is None else function(cfg)
    return names


def pair(words: list[str], shape: tuple[int, int, int], classes: int, batch: int) -> tuple[Training, Training | None]:
    """Ours, and torchvision's of the same weights if it has one."""
    cfg, _ = compose(words)
    name = words[0].partition("=")[2]
    peer = PEERS.get(name)
    if peer is None or not hasattr(torchvision.models, peer):
        return Training(words, shape, classes, batch), None
    if "model.norm=batch" in words and name.startswith("vgg"):
        peer += "_bn"
    more = {"init_weights": True} if peer == "googlenet" else {}
    theirs = getattr(torchvision.models, peer)(num_classes=classes, **more)
    ours = build_model(cfg.model, shape, classes)
    ours.load_state_dict(from_torchvision(theirs.state_dict(), names_of(cfg.model)))
    if peer == "googlenet":
        theirs = Googlenet(theirs)
    return Training(words, shape, classes, batch, ours), Training(words, shape, classes, batch, theirs)


def rounds(ours: Training, theirs: Training | None, seconds: float, number: int) -> list[tuple[float, float]]:
    """(ours, theirs) images/s, round by round; the same number of steps for both."""
    exact = torch.are_deterministic_algorithms_enabled()

    def peer(work: Callable[[], float]) -> float:
        torch.use_deterministic_algorithms(exact, warn_only=True)
        found = work()
        torch.use_deterministic_algorithms(exact)
        return found

    steps = ours.warm_up(seconds)
    if theirs is not None:
        peer(lambda: theirs.warm_up(seconds))
    found = []
    for index in range(number):
        a = b = float("nan")
        for mine in (True, False) if index % 2 else (False, True):
            if mine:
                a = ours.rows * steps / ours.seconds(steps)
            elif theirs is not None:
                b = peer(lambda: theirs.rows * steps / theirs.seconds(steps))
        found.append((a, b))
    return found


def line(
    name: str, words: list[str], shape: tuple[int, int, int], classes: int, batch: int, args: argparse.Namespace
) -> str:
    ours, theirs = pair([f"model={name.split()[0]}", *name.split()[1:], *words], shape, classes, batch)
    found = rounds(ours, theirs, args.seconds, args.rounds)
    speeds = [statistics.median(column) for column in zip(*found, strict=True)]
    sizes = f"{ours.env.precision:>6}{'x'.join(map(str, shape)):>11}{batch:>6}"
    head = f"{name:<24}{sizes}{speeds[0]:>12,.1f}"
    if theirs is None:
        return f"{head}{'-':>12}"
    ratios = [a / b for a, b in found]
    return f"{head}{speeds[1]:>12,.1f}{statistics.median(ratios):>8.3f}{min(ratios):>9.3f}-{max(ratios):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--precision", nargs="+", default=["auto"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--size", type=int, help="of photographs; the others have their paper's")
    parser.add_argument("--batch", type=int, help="16 of photographs on a CPU, 128 else")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="a round")
    parser.add_argument("--threads", default="auto")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if args.size is not None and args.size <= SMALL:
        parser.error(f"--size {args.size}: torchvision has no networks for images up to {SMALL} pixels")
    warnings.filterwarnings("ignore", message=".*deterministic.*")
    cuda = args.device != "cpu" and torch.cuda.is_available()
    common = [
        f"device={args.device}",
        f"trainer.threads={args.threads}",
        f"trainer.compile={str(args.compile).lower()}",
    ]
    place = machine(Training(["model=lenet5", *common], (1, 32, 32), 10, 2).env)
    print(f"{place}, torchvision {torchvision.__version__.partition('+')[0]}{', compiled' if args.compile else ''}")
    print(f"{'network':<24}{'':>6}{'images':>11}{'batch':>6}{'ours img/s':>12}{'theirs':>12}{'ratio':>8}{'spread':>15}")
    for name in args.names or [*table.options("model"), "vgg16 model.norm=batch"]:
        large = name.startswith(PHOTOGRAPHS)
        side = (args.size or 224) if large else SIDES.get(name, 32)
        shape = (1 if name.startswith(("mlp", "lenet")) else 3, side, side)
        batch = args.batch or (16 if large and not cuda else 128)
        for precision in args.precision:
            words = [f"precision={precision}", *common]
            print(line(name, words, shape, 1000 if large else 10, batch, args), flush=True)
            gc.collect()  # modules hold each other; their memory is wanted for the next
            torch.compiler.reset()


if __name__ == "__main__":
    main()
