"""What `regulars doctor` prints."""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from libs.common.telemetry import configure_logging
from regulars.doctor.examine import examine

_SIGNS = {"ok": "ok     ", "warning": "WARNING", "failed": "FAILED "}


def report(url: str | None, data_dir: Path, *, as_json: bool) -> int:
    """Examines and prints; the exit code: 1 when anything has failed."""
    configure_logging("error")
    findings = asyncio.run(examine(url, data_dir))
    failed = any(finding.level == "failed" for finding in findings)
    if as_json:
        print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return int(failed)
    for finding in findings:
        print(f"{_SIGNS[finding.level]} {finding.check}: {finding.detail}")
        if finding.next_step:
            print(f"        next: {finding.next_step}")
    levels = Counter(finding.level for finding in findings)
    warnings = f"{levels['warning']} warning{'' if levels['warning'] == 1 else 's'}"
    print(f"{levels['ok']} ok, {warnings}, {levels['failed']} failed")
    return int(failed)
