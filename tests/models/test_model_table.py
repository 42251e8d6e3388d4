"""What every network in the table must do. A new one is tested here the moment its YAML exists."""

import copy
import dataclasses
import enum
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dltrain.config import table
from dltrain.config.compose import compose
from dltrain.config.model import Model
from dltrain.models import build_model
from dltrain.tasks.evaluating import evaluating

MODELS = table.options("model")
BATCH, CLASSES = 4, 3


@functools.cache
def settings(name: str, word: str = "") -> Model:
    cfg, _ = compose([f"model={name}", *filter(None, [word])])
    found: Model = cfg.model
    return found


def shape(cfg: Model) -> tuple[int, int, int]:
    """Small images that the network can take, of two channels, so that nothing is right by chance."""
    height, width = cfg.fixed_size or (max(cfg.min_size[0], 8), max(cfg.min_size[1], 8))
    return 2, height, width


def build(cfg: Model, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(cfg, shape(cfg), CLASSES)


def images(cfg: Model, n: int = BATCH) -> Tensor:
    return torch.randn(n, *shape(cfg), generator=torch.Generator().manual_seed(1))


def variants() -> list[tuple[str, str]]:
    """Each model as it is, with each other value of each of its choices, and with dropout."""
    found = []
    for name in MODELS:
        found.append((name, ""))
        for field in dataclasses.fields(table.schema("model", name)):
            if isinstance(field.type, type) and issubclass(field.type, enum.StrEnum):
                found += [(name, f"model.{field.name}={value.value}") for value in field.type if value != field.default]
            elif field.name == "dropout":
                found.append((name, "model.dropout=0.5"))
    return found


every_model = pytest.mark.parametrize("name", MODELS)
every_variant = pytest.mark.parametrize(("name", "word"), variants())


@every_variant
def test_every_parameter_gets_a_finite_gradient(name: str, word: str) -> None:
    cfg = settings(name, word)
    net = build(cfg)
    logits = net(images(cfg))
    assert logits.shape == (BATCH, CLASSES)
    assert logits.dtype == torch.float32
    nn.functional.cross_entropy(logits, torch.arange(BATCH) % CLASSES).backward()
    for parameter, p in net.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        assert p.grad.any(), parameter


@every_model
@pytest.mark.parametrize("outputs", [1, 7])
def test_any_number_of_outputs(name: str, outputs: int) -> None:
    cfg = settings(name)
    assert build_model(cfg, shape(cfg), outputs)(images(cfg)).shape == (BATCH, outputs)


@every_variant
def test_loss_of_a_tiny_batch_falls(name: str, word: str) -> None:
    cfg = settings(name, word)
    net = build(cfg).train()
    x, y = images(cfg, 8), torch.arange(8) % CLASSES
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def loss() -> float:
        with torch.no_grad(), evaluating(net):  # batch norm and dropout as in use: averages, nothing dropped
            return nn.functional.cross_entropy(net(x), y).item()

    first = loss()
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert loss() < 0.8 * first


@every_variant
def test_state_dict_makes_the_same_network_again(name: str, word: str) -> None:
    cfg = settings(name, word)
    net = build(cfg).train()
    net(images(cfg))  # moves batch norm's statistics
    other = build(cfg, seed=5)
    x = images(cfg)
    assert not torch.equal(net.eval()(x), other.eval()(x))
    other.load_state_dict(copy.deepcopy(net.state_dict()), strict=True)
    assert torch.equal(net(x), other(x))


@every_model
def test_weights_follow_from_the_seed(name: str) -> None:
    cfg = settings(name)
    first, again, other = build(cfg, 3).state_dict(), build(cfg, 3).state_dict(), build(cfg, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if first[key].ndim > 1]
    assert weights
    assert not any(torch.equal(first[key], other[key]) for key in weights)


@every_variant
def test_no_module_works_in_place_or_twice(name: str, word: str) -> None:
    cfg = settings(name, word)
    net = build(cfg)
    calls: dict[str, int] = {}
    for module_name, module in net.named_modules():
        assert not getattr(module, "inplace", False), module_name
        calls[module_name] = 0
        module.register_forward_hook(lambda m, i, o, n=module_name: calls.update({n: calls[n] + 1}))
    net(images(cfg))
    containers = {n for n, m in net.named_modules() if isinstance(m, nn.Sequential | nn.ModuleList) and not len(m)}
    assert {n: c for n, c in calls.items() if c != 1 and n not in containers} == {}


@every_variant
def test_each_image_is_seen_alone_in_evaluation(name: str, word: str) -> None:
    cfg = settings(name, word)
    net = build(cfg).double().eval()
    x = images(cfg).double()
    together = net(x)
    assert together.dtype == torch.float64
    alone = torch.cat([net(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)
    assert torch.equal(net(x), together)


@every_model
def test_channels_last_and_contiguous_agree(name: str) -> None:
    cfg = settings(name)
    net = build(cfg).double()
    x = images(cfg).double()
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-12)


@every_model
def test_float64_gradients_match_finite_differences(name: str) -> None:
    cfg = settings(name)
    net = build(cfg).double().eval()
    x = images(cfg, 2).double()
    loss = nn.functional.cross_entropy(net(x), torch.tensor([0, 2]))
    named = list(net.named_parameters())
    grads = torch.autograd.grad(loss, [p for _, p in named])
    step = 1e-6
    with torch.no_grad():
        for (parameter, p), grad in zip(named, grads, strict=True):
            at = int(grad.abs().argmax())
            flat = p.view(-1)
            values = []
            for sign in (1, -1):
                flat[at] += sign * step
                values.append(nn.functional.cross_entropy(net(x), torch.tensor([0, 2])).item())
                flat[at] -= sign * step
            numeric = (values[0] - values[1]) / (2 * step)
            assert numeric == pytest.approx(grad.view(-1)[at].item(), rel=1e-4, abs=1e-8), parameter


@every_model
def test_the_network_runs_in_half_precision(name: str) -> None:
    cfg = settings(name)
    net = build(cfg)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            logits = net(images(cfg))
        assert logits.dtype == dtype
        assert logits.isfinite().all()


def test_a_config_names_no_code() -> None:
    cfg = copy.copy(settings("mlp"))
    cfg.name = "os:system"
    assert type(build(cfg)).__name__ == "MLP"


def test_a_model_of_the_users_own_package_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "package_of_mine" / "models"
    models.mkdir(parents=True)
    (models / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self, cfg, shape, num_outputs): super().__init__(shape[2], num_outputs)\n"
        "def no_module(cfg, shape, num_outputs): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cls = dataclasses.make_dataclass("Net", [], bases=(Model,), namespace={"builds": "net:Net"})
    cls.__module__ = "package_of_mine.config"
    net = build_model(cls(), (1, 8, 8), 2)
    assert type(net).__module__ == "package_of_mine.models.net"
    cls.builds = "net:no_module"
    with pytest.raises(TypeError, match=r"no torch\.nn\.Module"):
        build_model(cls(), (1, 8, 8), 2)
    cls.builds = "net"
    with pytest.raises(ValueError, match="file:Class"):
        build_model(cls(), (1, 8, 8), 2)
