"""What the storage floor says when something that was kept cannot be used."""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset is missing, incomplete or damaged; the message names what and the remedy."""


class DamageError(DatasetError):
    """A kept file is not what was written; the message names it and the remedy."""
