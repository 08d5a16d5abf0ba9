"""What a person is told: text as it is, errors as one message, interrupts as one line."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from rich.console import Console

from idpose_core.config import ConfigError
from storage.errors import ToldError

_ELSEWHERE = "with --root or $IDPOSE_ROOT"
_REMEDIES = {
    errno.ENOSPC: "make room on that disk; the same command goes on where it was",
    errno.EDQUOT: "make room on that disk; the same command goes on where it was",
    errno.EROFS: f"give a folder that can be written {_ELSEWHERE}",
    errno.EACCES: f"change its permissions, or give another folder {_ELSEWHERE}",
    errno.EPERM: f"change its permissions, or give another folder {_ELSEWHERE}",
}


def terminal(*, stderr: bool = False) -> Console:
    """A console on which brackets, colons and numbers in a text mean nothing."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def visible(text: str) -> str:
    """The text on one line: what does not print (a line end in a file's name) is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explain(error: BaseException) -> tuple[str, int] | None:
    """The message and the exit code of an error; None for what only a traceback can tell."""
    if isinstance(error, ConfigError):
        return str(error), 2
    if isinstance(error, ImportError) and isinstance(error.__cause__, ModuleNotFoundError):
        return f"{error}: pip install {error.__cause__.name}", 1
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            return None  # nobody reads: Typer ends in silence
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{error}: {remedy}" if remedy else str(error), 1
    if isinstance(error, ToldError | ValueError):
        return str(error), 1
    return None


def telling(stream: TextIO) -> Callable[[str], None]:
    """What prints lines on a stream for as long as it can be written, and then nothing any more.

    For work that does not hang on who listens: the pipe may be closed, the disk of the log full.
    The stream leads nowhere then, or what Python still holds for it would be an error at its end.
    """

    def tell(line: str) -> None:
        try:
            print(visible(line), file=stream, flush=True)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    return tell


def print_error(message: str) -> None:
    """The message on standard error, under the name of the program."""
    lines = [visible(line) for line in message.split("\n")]
    print("idpose: " + "\n".join(lines), file=sys.stderr)


def announce_interrupts() -> None:
    """From now on Ctrl-C says one line and ends the program; a second one ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
        after_echo = b"\n" if os.isatty(2) else b""
        os.write(2, after_echo + b"idpose: interrupted: the same command goes on where it was\n")
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup
        signal.signal(signal.SIGINT, stop)
