"""A keyed hash: the seed of everything that is drawn or shuffled. Needs no torch."""

import hashlib
import struct


def key(seed: int, purpose: str, *position: int) -> int:
    """64-bit integer for a purpose at a position: BLAKE2b of the packed integers, personalized by the purpose.

    Raises ValueError for a purpose longer than 16 bytes: cut short, two purposes could draw the same numbers.
    """
    person = purpose.encode()
    if len(person) > hashlib.blake2b.PERSON_SIZE:
        raise ValueError(f"purpose {purpose!r} is longer than {hashlib.blake2b.PERSON_SIZE} bytes")
    packed = struct.pack(f"<{1 + len(position)}q", seed, *position)
    digest = hashlib.blake2b(packed, digest_size=8, person=person).digest()
    return int.from_bytes(digest, "little")


def uniform(seed: int, purpose: str, *position: int) -> float:
    """A float64 in [0, 1) for a purpose at a position: the top 53 bits of its key."""
    return (key(seed, purpose, *position) >> 11) * 2.0**-53


def hash_text(text: str) -> int:
    """64-bit signed integer of a text, to stand in a position."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def stream(count: int, seed: int, purpose: str, *position: int) -> bytes:
    """So many random bytes for a purpose at a position: SHAKE-256 of its key."""
    return hashlib.shake_256(struct.pack("<Q", key(seed, purpose, *position))).digest(count)
