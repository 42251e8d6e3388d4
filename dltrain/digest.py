"""SHA-256 of nested tensors: equal digests mean equal bit for bit, whatever the strides or the file."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def digest(state: Any) -> str:
    """SHA-256 over the tensors by sorted name, and the canonical JSON of the rest."""
    sha = hashlib.sha256()
    sha.update(json.dumps(_skeleton(state), separators=(",", ":")).encode())
    for name, tensor in sorted(tensors(state, ()), key=lambda pair: pair[0]):
        _add_tensor(sha, name, tensor)
    return sha.hexdigest()


def weights_sha256(state_dict: dict[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes of a network's raw weights: equal means equal bit for bit."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors(state_dict, ()), key=lambda pair: pair[0]):
        _add_tensor(sha, name, tensor)
    return sha.hexdigest()


def _add_tensor(sha: Any, name: str, tensor: Tensor) -> None:
    head = json.dumps([name, str(tensor.dtype), list(tensor.shape)], separators=(",", ":"))
    sha.update(head.encode())
    # In the order of its indices, whatever its strides: channels-last weights are the same weights.
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        sha.update(flat.view(torch.uint8).numpy().data)


def tensors(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its place as JSON, in which the keys 0 and "0" differ."""
    if isinstance(value, Tensor):
        yield json.dumps(path), value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors(item, (*path, index))


def _skeleton(value: Any) -> Any:
    """All but the tensors as JSON that tells apart what differs: kinds are named, dicts are sorted lists."""
    if isinstance(value, Tensor):
        return ["tensor"]
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: (type(item[0]).__name__, item[0]))
        return ["dict", [[key, _skeleton(item)] for key, item in items], _skeleton(getattr(value, "_metadata", None))]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_skeleton(item) for item in value]]
    return value
