"""Philox against its published vectors, and what the draws promise: one row a sample, whatever stands beside it."""

import hashlib
import math
import struct

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dltrain.engine import random
from dltrain.engine.random import Position, key, normal, order, philox, uniform, words

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, result. The third uses the digits of pi.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
CPU = torch.device("cpu")


def hexadecimal(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def draw(counter: list[int], low: int, high: int) -> list[int]:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    return [int(word) for word in philox((c0, c1, c2, c3), high << 32 | low)]


@pytest.mark.parametrize(("counter", "key_words", "result"), VECTORS)
def test_philox_gives_the_published_vectors(counter: str, key_words: str, result: str) -> None:
    assert draw(hexadecimal(counter), *hexadecimal(key_words)) == hexadecimal(result)


@pytest.mark.parametrize("halves", [(0x299F31D0, 0xA4093822), (0xA4093823, 0x299F31D0)])
def test_another_key_misses_the_published_vector(halves: tuple[int, int]) -> None:
    counter, _, result = VECTORS[2]
    assert draw(hexadecimal(counter), *halves) != hexadecimal(result)


def philox_of_python_integers(counter: list[int], k0: int, k1: int) -> list[int]:
    """Salmon et al. 2011, section 3.3, without tensors: products of unbounded integers instead of wrapped ones."""
    for _ in range(10):
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        mask = 0xFFFFFFFF
        counter = [(p1 >> 32) ^ counter[1] ^ k0, p1 & mask, (p0 >> 32) ^ counter[3] ^ k1, p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return counter


def test_words_are_philox_of_sample_and_block() -> None:
    ids = torch.tensor([0, 1, 2**31, 2**32 - 1, 2**32 + 5, 2**62 + 3])
    k = key(7, "augment", 3)
    found = words(k, ids, 10)
    for row, sample in zip(found.tolist(), ids.tolist(), strict=True):
        expected = []
        for block in range(3):
            counter = [sample & 0xFFFFFFFF, sample >> 32, block, 0]
            expected += philox_of_python_integers(counter, k & 0xFFFFFFFF, k >> 32)
        assert row == expected[:10]


DRAWS = {"words": words, "uniform": uniform, "normal": normal}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 7), (17, 33), (130, 100), (301, 64)])
def test_a_row_is_the_same_alone_in_any_batch_and_cut_short(name: str, rows: int, n: int) -> None:
    k, ids = key(0, "latent"), torch.arange(rows) * 11 + 5
    full = DRAWS[name](k, ids, n)
    assert full.shape == (rows, n)
    assert torch.equal(DRAWS[name](k, ids.flip(0), n).flip(0), full)
    for row in {0, rows // 2, rows - 1}:
        alone = ids[row : row + 1]
        for length in {1, n // 2, n - 1, n} - {0}:
            assert torch.equal(DRAWS[name](k, alone, length)[0], full[row, :length])


@pytest.mark.parametrize("name", DRAWS)
def test_another_key_or_sample_gives_other_numbers(name: str) -> None:
    ids = torch.arange(64)
    here = DRAWS[name](key(0, "latent"), ids, 8)
    for other in (key(1, "latent"), key(0, "mixup"), key(0, "latent", 0)):
        assert (DRAWS[name](other, ids, 8) == here).float().mean() < 0.01
    assert len(torch.unique(here, dim=0)) == 64


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_threads_do_not_change_bits(name: str) -> None:
    k, ids, threads = key(0, "augment"), torch.arange(5000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = DRAWS[name](k, ids, 33)
        torch.set_num_threads(2)
        assert torch.equal(DRAWS[name](k, ids, 33), one)
    finally:
        torch.set_num_threads(threads)


def largest_gap(sample: Tensor, distribution: Tensor) -> float:
    """Kolmogorov and Smirnov's statistic times sqrt(n), given the distribution function at the sorted sample."""
    n = len(sample)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    gap = torch.maximum((steps[1:] - distribution).abs(), (distribution - steps[:-1]).abs()).max()
    return float(gap) * math.sqrt(n)


def gaps(purpose: str) -> tuple[float, float]:
    ids = torch.arange(50_000)
    u = uniform(key(0, purpose), ids, 2).flatten().double().sort().values
    z = normal(key(0, purpose), ids, 2).flatten().double().sort().values
    return largest_gap(u, u), largest_gap(z, torch.special.ndtr(z))


def test_uniforms_and_normals_follow_their_distributions() -> None:
    for purpose in ("augment", "latent"):
        for gap in gaps(purpose):
            assert gap < 1.95  # exceeded by chance once in 1,000


def test_the_gap_notices_a_distribution_slightly_off() -> None:
    u = uniform(key(0, "augment"), torch.arange(50_000), 2).flatten().double().sort().values
    assert largest_gap(u, u**1.02) > 1.95


def test_uniforms_stay_below_one_and_normals_finite() -> None:
    u = uniform(key(0, "augment"), torch.arange(200_000), 4)
    assert u.dtype == torch.float32
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    z = normal(key(0, "latent"), torch.arange(200_000), 4)
    assert torch.isfinite(z).all()
    assert 4.5 < z.abs().max() < 5.8  # sqrt(-2 log 2^-24) = 5.77 is the largest that 24 bits can give


def test_neighbours_are_uncorrelated() -> None:
    n = 40_000
    for draws in (uniform(key(0, "augment"), torch.arange(n), 6), normal(key(0, "latent"), torch.arange(n), 6)):
        table = torch.cat([draws, draws.roll(1, 0)], dim=1).double()
        correlation = torch.corrcoef(table.T) - torch.eye(12)
        assert correlation.abs().max() < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("n", [1, 2, 5, 1000, 60_000])
def test_order_is_a_permutation(n: int) -> None:
    shuffled = order(key(0, "order", 0), n)
    assert shuffled.dtype == torch.int64
    assert torch.equal(shuffled.sort().values, torch.arange(n))


def test_order_changes_with_seed_and_epoch_and_has_no_memory() -> None:
    first = order(key(0, "order", 0), 1000)
    assert torch.equal(order(key(0, "order", 0), 1000), first)
    for other in (key(0, "order", 1), key(1, "order", 0)):
        same_place = int((order(other, 1000) == first).sum())
        assert same_place < 10  # one is expected


def test_every_sample_comes_first_equally_often() -> None:
    counts = torch.zeros(6, 6)
    for epoch in range(1200):
        counts[torch.arange(6), order(key(0, "order", epoch), 6)] += 1
    chi2 = float(((counts - 200) ** 2 / 200).sum())
    assert chi2 < 55.0  # 25 degrees of freedom; exceeded by chance once in 2,000


def test_key_is_a_function_of_all_its_parts() -> None:
    keys = [
        key(0, "order"),
        key(1, "order"),
        key(0, "init"),
        key(0, "order", 0),
        key(0, "order", 1),
        key(0, "order", 0, 1),
        key(0, "order", 1, 0),
        key(2**63 - 1, "order"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= k < 2**64 for k in keys)
    packed = struct.pack("<qq", 5, 9)
    digest = hashlib.blake2b(packed, digest_size=8, person=b"order").digest()
    assert key(5, "order", 9) == struct.unpack("<Q", digest)[0]


def test_a_purpose_is_never_cut_short() -> None:
    key(0, "a" * 16)
    with pytest.raises(ValueError, match="longer than 16 bytes"):
        key(0, "a" * 16 + "b")


def dropped(position: Position) -> Tensor:
    random.set_position(position, CPU)
    return F.dropout(torch.ones(256), 0.5)


def test_dropout_is_a_function_of_the_position() -> None:
    base = dropped(Position(seed=3, epoch=1, step=20, micro=1, update=0))
    torch.rand(1000)  # history
    assert torch.equal(dropped(Position(seed=3, epoch=1, step=20, micro=1, update=0)), base)
    for other in (
        Position(seed=4, epoch=1, step=20, micro=1, update=0),
        Position(seed=3, epoch=2, step=20, micro=1, update=0),
        Position(seed=3, epoch=1, step=21, micro=1, update=0),
        Position(seed=3, epoch=1, step=20, micro=0, update=0),
        Position(seed=3, epoch=1, step=20, micro=1, update=1),
        Position(seed=3, epoch=1, step=20, micro=1, update=0, rank=1),
    ):
        assert not torch.equal(dropped(other), base)


@pytest.mark.parametrize("draw_name", ["draw_normal", "draw_uniform"])
def test_draws_of_a_loss_belong_to_the_sample(draw_name: str) -> None:
    draw = getattr(random, draw_name)
    ids = torch.tensor([4, 9, 2])
    random.set_position(Position(seed=1, step=5), CPU)
    whole = draw("latent", ids, (2, 3))
    assert whole.shape == (3, 2, 3)
    random.set_position(Position(seed=1, step=5, micro=1), CPU)
    assert torch.equal(draw("latent", ids[2:], (2, 3)), whole[2:])  # a micro-batch of its own
    assert not torch.equal(draw("mixup", ids, (2, 3)), whole)
    random.set_position(Position(seed=1, step=6), CPU)
    assert not torch.equal(draw("latent", ids, (2, 3)), whole)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_words_and_uniforms_are_the_same_bits_on_a_gpu() -> None:
    ids = torch.arange(1000)
    assert torch.equal(words(key(0, "augment"), ids.cuda(), 9).cpu(), words(key(0, "augment"), ids, 9))
    assert torch.equal(uniform(key(0, "augment"), ids.cuda(), 9).cpu(), uniform(key(0, "augment"), ids, 9))
