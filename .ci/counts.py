"""Adds up the JUnit reports in a folder and prints `N passed, N failed, N skipped` on one line.

Called last by `.ci/run`; standard library only, because it must work when set-up failed. A run
whose report is missing counts nothing, and an error in a fixture counts as a failure.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def totals(folder: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests over all `*.xml` reports in the folder."""
    passed = failed = skipped = 0
    for report in sorted(folder.glob("*.xml")):
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            wrong = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
            left_out = int(suite.get("skipped", "0"))
            passed += int(suite.get("tests", "0")) - wrong - left_out
            failed += wrong
            skipped += left_out
    return passed, failed, skipped


if __name__ == "__main__":
    print("{} passed, {} failed, {} skipped".format(*totals(Path(sys.argv[1]))))
