"""Errors of which a user needs the message and no traceback."""

from __future__ import annotations


class ToldError(Exception):
    """Something that can happen to every user; the message names the cause and the remedy."""


class DatasetError(ToldError):
    """A dataset is missing, incomplete or damaged; the message names what and the remedy."""


class DamageError(DatasetError):
    """A kept file is not what was written; the message names it and the remedy."""
