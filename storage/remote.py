"""Remote roots: opening one, asking it patiently, and saying why it does not answer."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fsspec

from storage.errors import StoreError

PATIENCE_S = 20.0  # an answer that never comes is told of within a minute all the same
PART = 8 << 20  # bytes of a file that are in memory at a time

_READ_TIMEOUT_S = 12.0
_TRIES = 3  # of one request, by botocore
_OPTIONS = {
    "s3": {
        "use_listings_cache": False,  # other processes write too
        "max_concurrency": 1,  # one part in memory, not ten
        "config_kwargs": {
            "connect_timeout": 5.0,
            "read_timeout": _READ_TIMEOUT_S,
            "retries": {"mode": "legacy", "total_max_attempts": _TRIES},
        },
    }
}
_NETWORK = ("aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "urllib3")
_REFUSED = (
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidToken",
    "TokenRefreshRequired",
    "400",  # an answer to HEAD has no body that would say more
)
_PASSING = (408, 409, 429)  # of the answers 4xx, those that another try may change
_GO_ON = "the same command goes on where it was"
_CREDENTIALS = "$AWS_ACCESS_KEY_ID and its kin, or $AWS_PROFILE"

ResultT = TypeVar("ResultT")


def open_filesystem(root: str) -> tuple[Any, str]:
    """The filesystem behind a root, and the root's path in it.

    Raises:
        StoreError: Its package is not installed, or credentials stand in the address.
        ValueError: Nothing is known of its protocol.
    """
    protocol, separator, _ = root.partition("://")
    protocol = {"s3a": "s3"}.get(protocol, protocol) if separator else "file"
    if protocol == "s3" and re.match(r"s3a?://(?!arn:)[^/]*[:@]", root):
        raise StoreError(
            "the root holds credentials, which would be shown wherever the root is: leave them "
            f"out, and set {_CREDENTIALS}"
        )
    try:
        filesystem, base = fsspec.core.url_to_fs(root, **_OPTIONS.get(protocol, {}))
    except ImportError as error:
        missing = "'idpose[s3]'" if protocol == "s3" else f"what fsspec needs for {protocol}://"
        raise StoreError(
            f"{root} needs a package that is not installed ({error}): pip install {missing}"
        ) from error
    filesystem.retries = 1  # those of s3fs would multiply those of botocore
    return filesystem, base


def patiently(root: str, call: Callable[[], ResultT]) -> ResultT:
    """Make a call, again and again at growing intervals where that may help.

    Raises:
        StoreError: The store does not answer, or refuses.
        FileNotFoundError, FileExistsError: As the call says.
    """
    end, wait = time.monotonic() + PATIENCE_S, 0.2
    while True:
        try:
            return call()
        except Exception as error:
            if _code(error) == "PreconditionFailed":  # s3fs knows it in the words of AWS alone
                raise FileExistsError(str(error)) from error
            told = _explain(root, error)
            if told is None:
                raise
            again = time.monotonic() + wait
            if _is_final(error) or again > end:
                raise told from error
        time.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(2 * wait, 5.0)


def _explain(root: str, error: Exception) -> StoreError | None:
    """What a user is told; None for what is no failure of the store."""
    code, name = _code(error), type(error).__name__
    if code == "NoSuchBucket":
        return StoreError(f"{root}: there is no such bucket: create it, or give another --root")
    known = isinstance(error, FileNotFoundError | FileExistsError)
    ours = isinstance(error, OSError) or type(error).__module__.split(".")[0] in _NETWORK
    if known or not ours:
        return None
    text = f"{code}: {_plain(error)}" if code is not None else f"{name}: {_plain(error)}"
    if _is_credential(error) or code in _REFUSED or isinstance(error, PermissionError):
        return StoreError(
            f"{root} refuses ({text}): set or renew the credentials ({_CREDENTIALS}), and let them "
            f"list, read, write and delete there; {_GO_ON}"
        )
    if code is not None:
        return StoreError(f"{root} fails ({text}): wait until it is well again; {_GO_ON}")
    return StoreError(
        f"{root} does not answer ({text}): see to the network and $AWS_ENDPOINT_URL; {_GO_ON}"
    )


def _is_final(error: Exception) -> bool:
    """Whether the same call would fail again."""
    if _is_credential(error) or isinstance(error, PermissionError):
        return True
    status = int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 400 <= status < 500 and status not in _PASSING


def _is_credential(error: Exception) -> bool:
    return any(
        type(cause).__module__.startswith("botocore")
        and re.search("Credential|Token", type(cause).__name__)
        for cause in _causes(error)
    )


def _code(error: Exception) -> str | None:
    """The word by which S3 calls an error."""
    found = _answer(error).get("Error", {}).get("Code")
    return None if found is None else str(found)


def _answer(error: Exception) -> dict[str, Any]:
    for cause in _causes(error):
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):
            return answer
    return {}


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _plain(error: Exception) -> str:
    """The error's words on one line, without credentials that an address may hold."""
    return re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
