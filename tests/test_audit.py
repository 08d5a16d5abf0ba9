from __future__ import annotations

from typing import Any

import pytest

from tests.audit import CLEAN, NOT_DONE, VULNERABLE, judge

GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "lost", "skip_reason": "Dependency not found on PyPI and could not be audited"}
OURS = {"name": "idpose", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD, OURS], CLEAN, "2 packages, no known vulnerability"),
        (
            [UNKNOWN, OURS],
            NOT_DONE,
            "audit not done: 1 of 2 packages could not be looked up (lost)",
        ),
        ([GOOD, UNKNOWN], NOT_DONE, "audit not done"),
        ([], NOT_DONE, "audit not done"),
        ([GOOD, BAD], VULNERABLE, "bad 2: PYSEC-1, fixed in 3"),
        ([BAD, UNKNOWN], VULNERABLE, "1 of 2 packages could not be looked up"),
    ],
)
def test_what_could_not_be_looked_up_does_not_pass(
    packages: list[dict[str, Any]], status: int, said: str
) -> None:
    found, message = judge({"dependencies": packages})
    assert found == status
    assert said in message
