"""Looks the installed packages up in the advisories: `make audit`.

pip-audit alone ends with 0 and "No known vulnerabilities found" where it could look up nothing,
and its --strict stops at the first package, the editable project itself among them. Here the three
outcomes are told apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CLEAN, VULNERABLE, NOT_DONE = 0, 1, 3


def judge(report: dict[str, Any]) -> tuple[int, str]:
    """The exit status and what to say about a report of `pip-audit --format json`."""
    packages = report["dependencies"]
    advisories = [
        f"{package['name']} {package['version']}: {found['id']}, "
        f"fixed in {', '.join(found['fix_versions']) or 'no release'}"
        for package in packages
        for found in package.get("vulns", [])
    ]
    ours = "distribution marked as editable"
    unknown = [p["name"] for p in packages if p.get("skip_reason", ours) != ours]
    missing = f"{len(unknown)} of {len(packages)} packages could not be looked up"
    if unknown:
        missing += f" ({', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''})"
    if advisories:
        return VULNERABLE, "\n".join(["vulnerable:", *advisories, *([missing] if unknown else [])])
    if unknown or not packages:
        return NOT_DONE, f"audit not done: {missing}"
    return CLEAN, f"audit: {len(packages)} packages, no known vulnerability"


def audit() -> tuple[int, str]:
    """Run pip-audit on this environment."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--format", "json"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return NOT_DONE, f"audit not done: {reason}"
    return judge(report)


if __name__ == "__main__":
    status, message = audit()
    print(message, file=sys.stderr if status else sys.stdout)
    sys.exit(status)
