"""The two halves of the hand-labelled real videos: a choice is made on one, the other is reported.

The half of a video follows from the hash of its file name alone. This file was committed before
anything was measured on the halves.
"""

from __future__ import annotations

import hashlib


def half(file_name: str) -> int:
    """0 or 1: the half that a video belongs to, by blake2b of its file name."""
    return hashlib.blake2b(file_name.encode(), digest_size=1).digest()[0] % 2
