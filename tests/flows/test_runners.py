"""Who carries out calls: the processes of this machine."""

from __future__ import annotations

import operator
import threading

import pytest

from flows.runners import LocalRunner
from idpose_core.config import RunConfig


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_leaves_no_executor_that_is_still_closing(error: type[BaseException]) -> None:
    # One that is may write a traceback at exit, over the message that tells what is wrong.
    before = set(threading.enumerate())
    # Results come as they are done: the interrupt may not race with an error.
    divisor = 0 if error is ZeroDivisionError else 1
    with pytest.raises(error), LocalRunner(RunConfig(workers=2)) as runner:
        for _ in runner.map(operator.truediv, [(4, 2), (1, divisor), (1, 1)], "divide"):
            if error is KeyboardInterrupt:
                raise error
    assert [thread for thread in threading.enumerate() if thread not in before] == []
