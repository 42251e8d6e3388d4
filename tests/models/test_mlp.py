"""The multilayer perceptron."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from dltrain.config import model as settings
from dltrain.models import build_model
from dltrain.models.mlp import hidden_widths

DIGITS = (1, 28, 28)


def test_300_100_has_266610_parameters_layer_by_layer() -> None:
    net = build_model(settings.MLP(widths=[300, 100]), DIGITS, 10)
    assert {name: p.numel() for name, p in net.named_parameters()} == {
        "hidden.0.linear.weight": 784 * 300,
        "hidden.0.linear.bias": 300,
        "hidden.1.linear.weight": 300 * 100,
        "hidden.1.linear.bias": 100,
        "output.weight": 100 * 10,
        "output.bias": 10,
    }
    assert sum(p.numel() for p in net.parameters()) == 266_610


@pytest.mark.parametrize(
    ("widths", "depth", "hidden"),
    [
        ([300, 100], None, [300, 100]),
        ([300, 100], 0, []),
        ([300, 100], 2, [300, 100]),
        ([300, 100], 3, [300, 100, 100]),
        ([300, 100], 1, [300]),
        ([64], 3, [64, 64, 64]),
        ([], None, []),
        ([], 0, []),
    ],
)
def test_depth_and_widths(widths: list[int], depth: int | None, hidden: list[int]) -> None:
    cfg = settings.MLP(widths=widths, depth=depth)
    assert hidden_widths(widths, depth) == hidden
    net = build_model(cfg, (3, 4, 5), 7)
    shapes = [tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")]
    assert shapes == list(zip([*hidden, 7], [60, *hidden], strict=True))


@pytest.mark.parametrize(("widths", "depth"), [([], 2)])
def test_depth_without_a_width_is_refused(widths: list[int], depth: int) -> None:
    with pytest.raises(ValueError, match=f"{depth} hidden layers"):
        hidden_widths(widths, depth)


@pytest.mark.parametrize(("name", "theirs"), [("relu", "relu"), ("tanh", "tanh"), ("sigmoid", "logistic")])
def test_mlp_matches_scikit_learn(name: str, theirs: str) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    cfg = settings.MLP(widths=[12, 9], activation=settings.Activation(name))
    net = build_model(cfg, (2, 3, 4), 5).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.5)  # biases too
    x = rng.normal(size=(50, 24))
    other = MLPClassifier((12, 9), activation=theirs, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other.fit(x, np.arange(50) % 5)  # only to have its attributes made
    layers = [net.hidden[0].linear, net.hidden[1].linear, net.output]
    other.coefs_ = [layer.weight.detach().numpy().T for layer in layers]
    other.intercepts_ = [layer.bias.detach().numpy() for layer in layers]
    ours = net(torch.from_numpy(x).view(50, 2, 3, 4)).softmax(1).detach().numpy()
    np.testing.assert_allclose(ours, other.predict_proba(x), rtol=0, atol=1e-13)


def test_depth_0_is_softmax_regression() -> None:
    torch.manual_seed(0)
    net = build_model(settings.MLP(depth=0), DIGITS, 10).double()
    assert sum(p.numel() for p in net.parameters()) == 7850
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(net(x), x.reshape(4, 784) @ net.output.weight.T + net.output.bias)
