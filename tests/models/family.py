"""Every family of networks by a small member, for what is too long for all of them; and all the names.

A family is a dataclass of the model table. Whoever adds one adds its small member here: a test says so until then.
"""

import enum
import functools
import shlex
from dataclasses import dataclass

import pytest
import torch

from dltrain.config import table
from dltrain.config.check import check
from dltrain.config.choices import as_given, keys_of
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.model import DCGAN, Model, PerPixel, Size
from dltrain.config.value import shape_of, usual

NAMES = table.options("model")
SIDE = 16  # attention over a single position has no gradient, and a ResNet halves three times


@dataclass(frozen=True)
class Member:
    """`words` make a network of the family that is computed in milliseconds, each way its blocks can be built once."""

    family: str
    words: tuple[str, ...]
    paper: Size  # of the images that its paper trains it for
    wide: bool = False  # millions of parameters, and no knob that makes them fewer
    few_pixels: tuple[str, ...] = ()  # what makes a run of it short all the same
    per_pixel: bool = False  # it answers for each pixel, so it learns from masks
    generates: bool = False  # its input is numbers, and its output images


MEMBERS = (
    Member("mlp", ("model=mlp",), (28, 28)),
    Member("lenet5", ("model=lenet5",), (32, 32)),
    Member("lenet5_caffe", ("model=lenet5_caffe",), (28, 28)),
    Member("alexnet", ("model=alexnet",), (224, 224), wide=True, few_pixels=("data.size=16x16",)),
    Member("vgg", ("model=vgg11", "model.base_channels=8"), (224, 224)),
    Member("resnet", ("model=resnet18", "model.blocks=[1,1,1,1]", "model.base_channels=8"), (224, 224)),
    Member("resnet", ("model=resnet50", "model.blocks=[1,1,1,1]", "model.base_channels=8"), (224, 224)),
    Member("cifar_resnet", ("model=resnet20", "model.n=1"), (32, 32)),
    Member("inception_v1", ("model=inception_v1",), (224, 224), wide=True, few_pixels=("data.size=8x8",)),
    Member("attention_cnn", ("model=attention_cnn", "model.base_channels=8"), (32, 32)),
    Member("unet", ("model=unet", "model.depth=3", "model.base_channels=4"), (512, 512), per_pixel=True),
    Member(
        "unet_resnet",
        ("model=unet_resnet18", "model.blocks=[1,1,1,1]", "model.base_channels=4"),
        (224, 224),
        per_pixel=True,
    ),
    Member("dcgan", ("model=dcgan", "model.base_channels=4"), (64, 64), generates=True),
)
LARGE = ("model.stem=large", "model.head=large")  # of these VGG and AlexNet get tens of millions of parameters
WITH_MASKS = tuple(member for member in MEMBERS if member.per_pixel)
GENERATORS = tuple(member for member in MEMBERS if member.generates)
CLASSIFIERS = tuple(member for member in MEMBERS if member not in WITH_MASKS + GENERATORS)  # with values, regressors
every_member = pytest.mark.parametrize("words", [member.words for member in MEMBERS], ids=" ".join)
every_classifier = pytest.mark.parametrize("words", [member.words for member in CLASSIFIERS], ids=" ".join)


def member_of(model: Model) -> Member:
    """The first small member of a network's family."""
    family = next(name for name, cls in table.BUILT_IN["model"].items() if type(model) is cls)
    return next(member for member in MEMBERS if member.family == family)


def answers_per_pixel(name: str) -> bool:
    """Whether the network of a name learns from masks."""
    return bool(table.schema("model", name).task == "segmentation")


def generates(name: str) -> bool:
    """Whether the network of a name makes images."""
    return bool(table.schema("model", name).task == "adversarial")


MASK_NAMES = [name for name in NAMES if answers_per_pixel(name)]
GENERATOR_NAMES = [name for name in NAMES if generates(name)]
CLASSIFIER_NAMES = [name for name in NAMES if name not in MASK_NAMES + GENERATOR_NAMES]


@functools.cache
def settings(*words: str) -> Model:
    """The model's settings of a command line."""
    model: Model = compose(list(words))[0].model
    return model


def accepted(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a network, and where the command line refuses them, those that it says to add."""
    try:
        check(compose(list(words))[0])
    except Mistake as told:
        return (*words, *shlex.split(told.type_this))
    return words


def shape(model: Model) -> tuple[int, int, int]:
    """Small images that the network can take, of two channels, so that nothing is right by chance."""
    return 2, *model.size_for((SIDE, SIDE))


def positions(model: Model, size: Size) -> tuple[int, ...]:
    """What is behind (B, K) in the shape of the answers to images of a size: nothing, or height and width."""
    return (size[0] - 2 * model.lost, size[1] - 2 * model.lost) if isinstance(model, PerPixel) else ()


def answer_shape(model: Model, size: Size, outputs: int, batch: int) -> torch.Size:
    """Of what is learned from: the answers to images of a size; of a generator, those of its discriminator."""
    if isinstance(model, DCGAN):
        return torch.Size((batch,))
    return torch.Size((batch, outputs, *positions(model, size)))


def of_the_paper(name: str) -> tuple[int, int, int]:
    """Images as the paper has them, for the network of a name."""
    height, width = member_of(settings(f"model={name}")).paper
    return 3, height, width


def variants(cost: str) -> list[tuple[str, ...]]:
    """Each member as it is, and with each other value of each choice, each switch, and dropout if it has none.

    `cost`: the `light` ones for every run of the tests, the `heavy` ones for the slow tests.
    """
    found = []
    for member in MEMBERS:
        option = member.words[0].partition("=")[2]
        others: list[str] = []
        for key in keys_of(table.schema("model", option), "model."):
            kind, is_list, optional = shape_of(key.type)
            now = usual(as_given(key, option))
            if isinstance(kind, type) and issubclass(kind, enum.Enum) and not is_list:
                others += [f"{key.name}={value}" for value in kind if str(value) != now]
            elif kind is bool:
                others.append(f"{key.name}={'false' if now == 'true' else 'true'}")
            elif key.name == "model.dropout":
                others.append(f"{key.name}={0.5 if float(now) == 0 else 0}")
            elif optional and now != "null":
                others.append(f"{key.name}=null")
        heavy = [word for word in others if word in LARGE and member.family in ("alexnet", "vgg")]
        light = ["", *(word for word in others if word not in heavy)]
        found += [accepted((*member.words, *filter(None, [word]))) for word in (heavy if cost == "heavy" else light)]
    return found


def is_wide(words: tuple[str, ...]) -> bool:
    """Whether a network is of a family that has no small member."""
    return member_of(settings(*words)).wide


def few_pixels(words: tuple[str, ...]) -> list[str]:
    """What a command line needs beside the words of a network for its run to be short."""
    return list(member_of(settings(*words)).few_pixels)
