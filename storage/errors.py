"""Errors of which a user needs the message and no traceback."""

from __future__ import annotations


class ToldError(Exception):
    """Something that can happen to every user; the message names the cause and the remedy."""


class DatasetError(ToldError):
    """A dataset is missing, incomplete or damaged; the message names what and the remedy."""


class DamageError(DatasetError):
    """A kept file is not what was written; the message names it and the remedy."""


class StoreError(ToldError):
    """A remote root cannot be reached or refuses; the message names the cause and the remedy.

    It says nothing of the objects there, so it is no OSError: who takes one of these for damage of
    a file would remove what is whole.
    """
