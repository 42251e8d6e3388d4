"""The only file that draws. Every number is a function of (seed, purpose, position), never of history.

Three tools: a keyed hash to integers (`key`), Philox4x32-10 as integer tensor operations for what belongs to a
sample (Salmon et al. 2011; the same bits on every device, in any batch, worker or process), and reseeding of torch's
default generators before each micro-batch for dropout and the like.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.keys import key as key
from dltrain.transfer import to_device

MASK32 = 0xFFFFFFFF
PHILOX_M0, PHILOX_M1 = 0xD2511F53, 0xCD9E8D57
PHILOX_W0, PHILOX_W1 = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key64: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10: four int64 tensors of 32-bit words each, from a counter of the same form and a 64-bit key.

    An operation on so little costs its call, whatever its size, most of all on a GPU: so a round takes four, into the
    same memory each time. Words 0 and 2 lie side by side, and the halves of their products are views of its bytes.
    Products of two words wrap around in int64, which leaves both of their halves right.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key64 & MASK32, (key64 >> 32) & MASK32
    keys = [((k1 + PHILOX_W1 * turn) & MASK32, (k0 + PHILOX_W0 * turn) & MASK32) for turn in range(10)]
    table = to_device(torch.tensor([(PHILOX_M0, PHILOX_M1), *keys]), c0.device).reshape(11, 2, *[1] * c0.ndim)
    even, product = torch.stack([c0, c2]), torch.stack([c3, c1])  # the first product's lower halves are words 3 and 1
    (c0, c2), _ = _halves(even)  # the upper halves stay zero
    lower, (upper0, upper1) = _halves(product)
    keyed = torch.empty_like(lower)
    keyed3, keyed1 = keyed
    factors, *_ = table
    for round_key in _halves(table)[0][1:]:
        torch.bitwise_xor(lower, round_key, out=keyed)
        torch.mul(even, factors, out=product)
        torch.bitwise_xor(upper1, keyed1, out=c0)
        torch.bitwise_xor(upper0, keyed3, out=c2)
    (c0, c2), (c3, c1) = even, product & MASK32
    return c0, c1, c2, c3


def _halves(words: Tensor) -> tuple[Tensor, Tensor]:
    """int32 views of int64: the lower halves, and the upper ones, as little-endian machines have them."""
    halves = words.view(torch.int32)
    return halves[..., ::2], halves[..., 1::2]


def words(key64: int, ids: Tensor, n: int) -> Tensor:
    """(B, n) 32-bit words in int64, row i a function of key and ids[i] only."""
    blocks = torch.arange((n + 3) // 4, device=ids.device, dtype=torch.int64)
    sample, shape = ids.to(torch.int64)[:, None], (len(ids), len(blocks))
    counter = (sample & MASK32, (sample >> 32) & MASK32, blocks, torch.zeros_like(blocks))
    c0, c1, c2, c3 = (word.expand(shape) for word in counter)
    return torch.stack(philox((c0, c1, c2, c3), key64), dim=-1).reshape(len(ids), -1)[:, :n]


def uniform(key64: int, ids: Tensor, n: int) -> Tensor:
    """(B, n) float32 in [0, 1): the top 24 bits of each word, so the same bits on every device."""
    return (words(key64, ids, n) >> 8).to(torch.float32) * 2.0**-24


def normal(key64: int, ids: Tensor, n: int) -> Tensor:
    """(B, n) standard normal float32 by Box and Muller; bits agree per kind of device.

    Each pair comes from neighbouring uniforms, so that n numbers are the first n of any longer row.
    """
    half = (n + 1) // 2
    u = uniform(key64, ids, 2 * half).reshape(len(ids), half, 2)
    radius = torch.sqrt(-2.0 * torch.log1p(-u[..., 0].contiguous()))
    angle = 2.0 * math.pi * u[..., 1].contiguous()
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1).reshape(len(ids), -1)[:, :n]


def order(key64: int, n: int) -> Tensor:
    """(n,) a permutation of 0..n-1, int64 on the CPU: stable argsort of one 62-bit word pair a sample."""
    pair = words(key64, torch.arange(n), 2)
    return torch.argsort((pair[:, 0] << 30) ^ pair[:, 1], stable=True)


@dataclass
class Position:
    """Where a run stands: set before each micro-batch of each update."""

    seed: int = 0
    epoch: int = 0
    step: int = 0
    micro: int = 0
    update: int = 0
    rank: int = 0


_position = Position()


def seed_generators(key64: int, device: torch.device) -> None:
    """Seed torch's default generator and the device's own. CPU generators keep 32 bits, so the key is folded."""
    folded = (key64 ^ (key64 >> 32)) & MASK32
    torch.default_generator.manual_seed(folded)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(folded)


def set_position(position: Position, device: torch.device) -> None:
    """Make dropout, and every `draw_*`, a function of this position."""
    global _position
    _position = position
    p = position
    seed_generators(key(p.seed, "dropout", p.epoch, p.step, p.micro, p.update, p.rank), device)


def draw_normal(purpose: str, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, *shape) standard normal float32 for a loss: a function of seed, purpose, step, update and sample."""
    p = _position
    flat = normal(key(p.seed, purpose, p.step, p.update), ids, math.prod(shape))
    return flat.reshape(len(ids), *shape)


def draw_uniform(purpose: str, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, *shape) float32 in [0, 1) for a loss: a function of seed, purpose, step, update and sample."""
    p = _position
    flat = uniform(key(p.seed, purpose, p.step, p.update), ids, math.prod(shape))
    return flat.reshape(len(ids), *shape)
