"""What every name in the table must be: every family has a small member, every name builds, at any size it can take."""

from typing import Any

import pytest
import torch

from dltrain.config import table
from dltrain.config.model import DCGAN, AlexNetForm, InceptionForm, Scale
from dltrain.models import build_model, outline
from dltrain.models.outputs import split
from tests.models.family import MEMBERS, NAMES, answer_shape, every_member, of_the_paper, settings, shape

OTHERWISE_CALLED = {"mlp_300_100": "mlp"}  # a network of this width has no name of its own

every_name = pytest.mark.parametrize("name", NAMES)


def test_every_family_has_a_small_member() -> None:
    """What the other tests go over is derived from this list: a family without a member would not be tested."""
    missing = sorted(set(table.BUILT_IN["model"]) - {member.family for member in MEMBERS})
    assert not missing, f"add to MEMBERS in tests/models/family.py a small network of each of these: {missing}"
    for member in MEMBERS:
        model = settings(*member.words)
        assert type(model) is table.BUILT_IN["model"][member.family]
        parameters = sum(p.numel() for p in outline(model, shape(model), 3).parameters())
        assert parameters < (12e6 if member.wide else 5e5), f"{member.words}: {parameters:,} parameters are not small"


def test_every_family_has_a_name_that_people_can_type() -> None:
    assert {type(settings(f"model={name}")) for name in NAMES} == set(table.BUILT_IN["model"].values())


@every_name
def test_a_network_is_called_what_is_typed(name: str) -> None:
    assert settings(f"model={name}").title == OTHERWISE_CALLED.get(name, name)


def test_a_network_that_is_changed_is_not_called_by_the_name_of_a_published_one() -> None:
    assert settings("model=resnet50", "model.blocks=[1,1,1,1]").title == "resnet14"
    assert settings("model=resnet20", "model.residual=false").title == "plain20"
    assert settings("model=vgg16", "model.convs=[1,1]").title == "vgg5"


def test_names_stand_in_the_order_of_their_numbers() -> None:
    ordered = ["resnet18", "resnet20", "resnet50", "resnet101", "resnet110", "vgg11", "vgg19"]
    assert [name for name in NAMES if name in ordered] == ordered


@every_name
def test_an_option_says_where_it_is_from(name: str) -> None:
    assert table.option_file("model", name).read_text(encoding="utf-8").startswith("# ")


def outputs(model: Any, size: tuple[int, int, int], classes: int = 3, batch: int = 2) -> set[torch.Size]:
    """Shapes of what the network gives in training and in evaluation, computed on the meta device."""
    net = outline(model, size, classes)
    images = torch.zeros(batch, *size, device="meta")
    if isinstance(model, DCGAN):
        generated = net(torch.zeros(batch, model.latent_dim, device="meta"))
        assert generated.shape == images.shape
        net = net.get_submodule("discriminator")
    logits, auxiliary, _ = split(net.train()(images))
    evaluated = net.eval()(images)
    assert isinstance(evaluated, torch.Tensor)
    return {head.shape for head in (logits, evaluated, *auxiliary)}


@every_name
def test_every_network_builds_at_its_papers_size(name: str) -> None:
    """Without memory, on the meta device; every head gives as many outputs as are asked for."""
    model, size = settings(f"model={name}"), of_the_paper(name)
    assert outputs(model, size, 1000) == {answer_shape(model, size[1:], 1000, 2)}


def sizes_of(model: Any) -> list[tuple[int, int]]:
    height, width = model.min_size
    return [(height, width), model.size_for((height, width + 13)), model.size_for((height + 7, width))]


MINIMAL = [member.words for member in MEMBERS]
MINIMAL += [
    (f"model={name}", f"model.form={form}", f"model.stem={stem}")
    for name, forms in (("alexnet", AlexNetForm), ("inception_v1", InceptionForm))
    for form in forms
    for stem in Scale
]
MINIMAL += [("model=vgg11", f"model.convs={convs}") for convs in ("[1]", "[1,1]", "[1,1,1,1,1,1,1]")]
MINIMAL += [("model=vgg16", "model.head=large")]
MINIMAL += [("model=resnet18", "model.stem=large"), ("model=attention_cnn", "model.layers=2")]
MINIMAL += [("model=unet", "model.depth=2", "model.skips=false")]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("words", MINIMAL, ids=" ".join)
def test_the_smallest_size_is_the_smallest_that_works(words: tuple[str, ...]) -> None:
    """At `min_size` and at sizes that are odd from there on it works; one pixel less, and torch refuses."""
    model = settings(*words)
    if model.fixed_size is None:
        for height, width in sizes_of(model):
            assert outputs(model, (3, height, width)) == {answer_shape(model, (height, width), 3, 2)}
    height, width = model.min_size
    for size in ((height - 1, width), (height, width - 1)):
        if min(size) > 0:
            with pytest.raises((RuntimeError, ValueError)):
                outputs(model, (3, *size))


@every_member
def test_a_network_without_memory_has_the_names_and_shapes_of_the_real_one(words: tuple[str, ...]) -> None:
    """Its every parameter and buffer takes no memory."""
    model = settings(*words)
    meta, real = outline(model, shape(model), 3), build_model(model, shape(model), 3)
    assert {key: value.shape for key, value in meta.state_dict().items()} == {
        key: value.shape for key, value in real.state_dict().items()
    }
    assert all(value.is_meta for value in meta.state_dict().values())
