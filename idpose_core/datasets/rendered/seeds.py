"""Random numbers that follow from names: independent of order, process and hash seed."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def number(*names: object) -> int:
    """An integer in [0, 2**63) that follows from the names (their text, so 1 and "1" are equal)."""
    digest = blake2b("\x1f".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*names: object) -> np.random.Generator:
    """A generator seeded by the names."""
    return np.random.default_rng(number(*names))
