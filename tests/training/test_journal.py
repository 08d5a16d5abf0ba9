"""The record of a run: one part that fails leaves the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from idpose_core.training.journal import Journal, read_metrics
from storage.objects import Store


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_of_tensorboard_that_failed_takes_no_other_record_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in its thread, and then whenever it is used again."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(self: RecordWriter, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    log = Journal(Store(tmp_path), "r", 0)
    log.write(1, {"loss": 1.0})
    log.flush()
    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(OSError, match="No space"):
        for _ in range(2):
            log.write(2, {"loss": 2.0})
            log.flush()
    log.write(3, {"loss": 3.0})
    log.picture(3, "samples", np.zeros((8, 8, 3), np.uint8))
    log.close()
    assert {row["step"] for row in read_metrics(Store(tmp_path), "r")} == {1, 2, 3}
