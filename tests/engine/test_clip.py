"""Clipping against formulas written out in float64, and against torch's clip_grad_norm_."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from dltrain.config.groups import ClipAgc, ClipNorm, ClipValue, NoClip
from dltrain.engine.clip import ClipCfg, ClipResult, clip
from tests.engine.reading import NoReading

Named = list[tuple[str, Parameter]]


class Network(nn.Module):
    """Two convolutions with a gain between, a scalar of its own, and a linear output."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = Parameter(torch.tensor(0.7))
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1, bias=False))
        self.hidden = nn.Linear(20, 6)
        self.head = nn.Linear(6, 3)


def case(scale: float = 1.0, seed: int = 0) -> Named:
    torch.manual_seed(seed)
    module = Network()
    named = list(module.named_parameters())
    for _, p in named:
        p.grad = torch.randn(p.shape) * scale
    return named


def grads(named: Named) -> dict[str, Tensor]:
    """Copies in float64."""
    return {name: p.grad.double() for name, p in named if p.grad is not None}


def assert_grads(named: Named, expected: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    for name, grad in grads(named).items():
        torch.testing.assert_close(
            grad, expected[name], rtol=tolerance, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}"
        )


def total(gradients: dict[str, Tensor]) -> float:
    return sum(float((g**2).sum()) for g in gradients.values()) ** 0.5


def run(named: Named, cfg: ClipCfg) -> tuple[float, float]:
    result = clip(named, cfg)
    assert result.layer_norms is None
    assert result.norm.shape == result.clipped.shape == ()
    return float(result.norm), float(result.clipped)


# ---- none


def test_none_measures_and_changes_nothing() -> None:
    named = case()
    before = grads(named)
    norm, clipped = run(named, NoClip())
    assert norm == pytest.approx(total(before), rel=1e-6)
    assert clipped == 0
    assert all(torch.equal(after, before[name]) for name, after in grads(named).items())


# ---- norm


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 10.0])
def test_norm_gives_t_g_over_norm(max_norm: float) -> None:
    named = case()
    before = grads(named)
    norm, clipped = run(named, ClipNorm(max_norm=max_norm))
    assert norm == pytest.approx(total(before), rel=1e-6)
    assert norm > max_norm
    assert clipped == 1
    assert_grads(named, {name: max_norm * g / total(before) for name, g in before.items()})
    assert total(grads(named)) == pytest.approx(max_norm, rel=1e-6)


def test_norm_leaves_a_smaller_gradient_alone_to_the_bit() -> None:
    named = case()
    before = grads(named)
    _, clipped = run(named, ClipNorm(max_norm=1000.0))
    assert clipped == 0
    assert all(torch.equal(after, before[name]) for name, after in grads(named).items())


def test_at_the_threshold_both_branches_agree() -> None:
    p = Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert run([("p", p)], ClipNorm(max_norm=5.0)) == (5.0, 1.0)  # ||g|| < T does not hold
    assert p.grad.tolist() == [3.0, 4.0]


def test_norm_agrees_with_torch_where_its_epsilon_does_not_matter() -> None:
    ours, theirs = case(), case()
    norm, _ = run(ours, ClipNorm(max_norm=1.0))
    assert norm == pytest.approx(float(nn.utils.clip_grad_norm_([p for _, p in theirs], 1.0)), rel=1e-6)
    assert_grads(ours, grads(theirs), tolerance=2e-6)


def test_torchs_epsilon_shows_on_tiny_gradients_and_ours_has_none() -> None:
    ours, theirs = case(1e-8), case(1e-8)
    max_norm = 1e-8
    run(ours, ClipNorm(max_norm=max_norm))
    nn.utils.clip_grad_norm_([p for _, p in theirs], max_norm)
    assert total(grads(ours)) == pytest.approx(max_norm, rel=1e-5)
    assert total(grads(theirs)) < 0.5 * max_norm


def test_norm_is_over_the_whole_gradient_not_each_tensor() -> None:
    named = case()
    before = grads(named)
    run(named, ClipNorm(max_norm=1.0))
    for name, after in grads(named).items():
        each_alone = before[name] / max(1.0, float(before[name].norm()))
        assert not torch.allclose(after, each_alone)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_shows_in_the_norm(bad: float) -> None:
    for cfg in (NoClip(), ClipNorm(), ClipValue(), ClipAgc()):
        named = case()
        assert named[-1][1].grad is not None
        named[-1][1].grad[0] = bad
        norm, _ = run(named, cfg)
        assert not norm < float("inf")


def test_a_zero_gradient_stays_zero() -> None:
    for cfg in (NoClip(), ClipNorm(), ClipValue(), ClipAgc()):
        named = case(0.0)
        assert run(named, cfg) == (0.0, 0.0)
        assert all((g == 0).all() for g in grads(named).values())


# ---- value


def test_value_keeps_each_element_within_bounds() -> None:
    named = case()
    before = grads(named)
    norm, clipped = run(named, ClipValue(max_value=0.5))
    assert norm == pytest.approx(total(before), rel=1e-6)  # before clipping
    assert clipped == 1
    assert_grads(named, {name: g.clamp(-0.5, 0.5) for name, g in before.items()})


@pytest.mark.parametrize(("largest", "clipped"), [(0.5, 0.0), (0.50001, 1.0), (-0.50001, 1.0)])
def test_value_counts_as_clipped_when_one_element_is_outside(largest: float, clipped: float) -> None:
    named = case(0.0)
    assert named[3][1].grad is not None
    named[3][1].grad.view(-1)[0] = largest
    assert run(named, ClipValue(max_value=0.5))[1] == clipped


# ---- agc


def agc(named: Named, factor: float, head: bool = False) -> tuple[dict[str, Tensor], bool]:
    """Brock 2021, equation 3, a unit at a time: a row, a filter, all of a bias or gain; the head is left out."""
    expected, any_clipped = {}, False
    for name, p in named:
        assert p.grad is not None
        g, w = p.grad.double().clone(), p.detach().double()
        if head or not name.startswith("head."):
            units = list(zip(g, w, strict=True)) if g.ndim >= 2 else [(g.view(-1), w.view(-1))]
            for unit_g, unit_w in units:
                allowed = factor * max(float(unit_w.norm()), 1e-3)
                if float(unit_g.norm()) > allowed:
                    unit_g *= allowed / float(unit_g.norm())
                    any_clipped = True
        expected[name] = g
    return expected, any_clipped


@pytest.mark.parametrize("scale", [1e-5, 5e-3, 1e-2, 1.0])
@pytest.mark.parametrize("factor", [0.01, 0.2])
def test_agc_equals_equation_3(scale: float, factor: float) -> None:
    named = case(scale)
    before = grads(named)
    expected, any_clipped = agc(named, factor)
    norm, clipped = run(named, ClipAgc(factor=factor))
    assert norm == pytest.approx(total(before), rel=1e-6)
    assert clipped == any_clipped
    assert_grads(named, expected)


def test_agc_clips_some_units_of_a_layer_and_leaves_others_to_the_bit() -> None:
    named = case(1e-4)
    weight = dict(named)["hidden.weight"]
    assert weight.grad is not None
    weight.grad[2] *= 1e4
    before = weight.grad.clone()
    assert run(named, ClipAgc())[1] == 1
    changed = (weight.grad != before).any(dim=1)
    assert changed.tolist() == [row == 2 for row in range(6)]


def test_agc_lets_zero_weights_move() -> None:
    p = Parameter(torch.zeros(2, 3, 1, 1))
    p.grad = torch.full_like(p, 5.0)
    run([("conv.weight", p)], ClipAgc(factor=0.1))
    assert p.grad[0].norm() == pytest.approx(0.1 * 1e-3, rel=1e-6)


def test_agc_notices_another_factor_unit_or_head() -> None:
    named = case()
    expected, _ = agc(named, 0.01)
    another_factor, _ = agc(named, 0.011)
    with_head, _ = agc(named, 0.01, head=True)
    run(named, ClipAgc(factor=0.01))
    assert_grads(named, expected)
    for other in (another_factor, with_head):
        with pytest.raises(AssertionError):
            assert_grads(named, other)


def test_a_network_that_ends_in_a_convolution_has_no_head() -> None:
    named = [(name, p) for name, p in case() if name.startswith("features.")]
    expected, _ = agc(named, 0.01)
    run(named, ClipAgc(factor=0.01))
    assert_grads(named, expected)
    assert all(p.grad is not None and p.grad.norm() < 0.1 for _, p in named)


def test_agc_of_nothing_but_a_head_clips_nothing() -> None:
    named = [(name, p) for name, p in case() if name.startswith("head.")]
    before = grads(named)
    assert run(named, ClipAgc()) == (pytest.approx(total(before), rel=1e-6), 0.0)
    assert all(torch.equal(after, before[name]) for name, after in grads(named).items())


# ---- all


@pytest.mark.parametrize("cfg", [NoClip(), ClipNorm(max_norm=0.5), ClipValue(max_value=0.1), ClipAgc()])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_does_not_matter(cfg: ClipCfg, memory_format: torch.memory_format) -> None:
    plain, laid_out = case(), case()
    for _, p in laid_out:
        if p.ndim == 4:
            assert p.grad is not None
            p.data = p.data.contiguous(memory_format=memory_format)
            p.grad = p.grad.contiguous(memory_format=memory_format)
    assert run(plain, cfg) == pytest.approx(run(laid_out, cfg), rel=1e-6)
    assert_grads(laid_out, grads(plain))


@pytest.mark.parametrize("cfg", [NoClip(), ClipNorm(max_norm=0.5), ClipValue(max_value=0.1), ClipAgc()])
def test_parameters_without_gradient_are_left_out(cfg: ClipCfg) -> None:
    some, fewer = case(), case()
    dropped = ("features.0.weight", "hidden.bias")
    for name, p in some:
        if name in dropped:
            p.grad = None
    fewer = [(name, p) for name, p in fewer if name not in dropped]
    assert run(some, cfg) == run(fewer, cfg)
    assert_grads(some, grads(fewer), tolerance=0)
    for name, p in some:
        if name in dropped:
            assert p.grad is None


@pytest.mark.parametrize("cfg", [NoClip(), ClipNorm(), ClipValue(), ClipAgc()])
def test_without_any_gradient_the_norm_is_zero(cfg: ClipCfg) -> None:
    named = case()
    for _, p in named:
        p.grad = None
    assert run(named, cfg) == (0.0, 0.0)
    assert run([], cfg) == (0.0, 0.0)
    assert clip(named, cfg, want_layer_norms=True).layer_norms == {}


@pytest.mark.parametrize("cfg", [NoClip(), ClipNorm(max_norm=0.1)])
def test_layer_norms_are_of_each_layers_gradient_before_clipping(cfg: ClipCfg) -> None:
    named = case()
    before = grads(named)
    result: ClipResult = clip(named, cfg, want_layer_norms=True)
    assert result.layer_norms is not None
    assert list(result.layer_norms) == ["temperature", "features.0", "features.1", "features.2", "hidden", "head"]
    for layer, norm in result.layer_norms.items():
        parts = {name: g for name, g in before.items() if name.startswith(layer)}
        assert float(norm) == pytest.approx(total(parts), rel=1e-6)


@pytest.mark.parametrize("cfg", [NoClip(), ClipNorm(max_norm=0.5), ClipValue(max_value=0.1), ClipAgc()])
@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_clipping_reads_no_value(cfg: ClipCfg, scale: float) -> None:
    named = case(scale)
    with NoReading():
        clip(named, cfg, want_layer_norms=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("cfg", [NoClip(), ClipNorm(max_norm=0.5), ClipValue(max_value=0.1), ClipAgc()])
def test_on_a_gpu_clipping_does_not_wait_for_the_device(cfg: ClipCfg) -> None:
    host, device = case(), case()
    for _, p in device:
        gradient = p.grad
        assert gradient is not None
        p.grad = None
        p.data = p.data.cuda()
        p.grad = gradient.cuda()
    expected = run(host, cfg)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = clip(device, cfg, want_layer_norms=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (float(result.norm), float(result.clipped)) == pytest.approx(expected, rel=1e-5)
    assert_grads([(name, p) for name, p in device], {n: g.cuda() for n, g in grads(host).items()}, tolerance=1e-5)
