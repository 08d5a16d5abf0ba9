"""Credentials in addresses: never stored, and filled in from the environment at the moment of use.

Who posts a configuration to a server writes ``${NAME}`` where the credential belongs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from idpose_core.settings import ConfigError

_WORDS = "token|secret|signature|passw|credential|apikey"
_NAMES = "key|sig|auth|authorization|pass|pwd|session|sid|jwt|hmac"
SECRET = re.compile(
    rf"{_WORDS}|^x-(amz|goog)-|(^|[-_.])({_NAMES}|policy|expires?)($|[-_.])", re.IGNORECASE
)
"""Parameters of a query whose value may open what is closed, or changes with one that does."""

_REMEDY = "write ${NAME} in its place and set NAME in the environment of whoever does the work"
_PLACE = re.compile(r"\$\{(\w+)\}")
_FILLED_IN = rf"{_PLACE.pattern}(?=[@&#]|$)"
_PARAMETER = (
    rf"[?&](?:[^=&#]*(?:{_WORDS})[^=&#]*|(?:[^=&#]*[-_.])?(?:{_NAMES})(?:[-_.][^=&#]*)?)="
    rf"(?!{_FILLED_IN}|[^&#]*\{{video_id\}})[^&#]"
)
_PASSWORD = rf"(?:^|://)[^/?#@:]*:(?!//|{_FILLED_IN})[^/?#@]+@"
_USER = rf"https?://(?!(?:[^/?#@:]*:)?{_FILLED_IN})[^/?#@]+@"
_CREDENTIAL = f"(?i:{_PARAMETER}|{_PASSWORD}|{_USER})"

PATTERN = f"(?#no credential: {_REMEDY})^(?!.*{_CREDENTIAL})"
"""What a text without a credential matches, as a pattern of JSON Schema that Python reads."""


def refuse_credentials(values: Any, key: str = "") -> None:
    """Look for credentials in the addresses of a configuration, before it is stored in clear.

    Args:
        values: Plain values.
        key: Of these values.

    Raises:
        ConfigError: There is one; the message names its key and the remedy, not the credential.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            refuse_credentials(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            refuse_credentials(value, key)
    elif isinstance(values, str) and holds_credential(values):
        raise ConfigError(f"{key} holds a credential, which would be stored in clear: {_REMEDY}")


def holds_credential(text: str) -> bool:
    """Whether an address holds a password, or a parameter that is called like a secret."""
    return re.search(_CREDENTIAL, text) is not None


def has_place(text: str) -> bool:
    """Whether ``${NAME}`` stands for something in it."""
    return _PLACE.search(text) is not None


def filled_in(text: str, key: str) -> str:
    """An address with the values of the environment for every ``${NAME}``, as they stand there.

    Args:
        text: The address.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: A variable is not set.
    """

    def value(place: re.Match[str]) -> str:
        if place[1] not in os.environ:
            raise ConfigError(f"{key}: {place[0]} is not set: set {place[1]} in the environment")
        return os.environ[place[1]]

    return _PLACE.sub(value, text)
