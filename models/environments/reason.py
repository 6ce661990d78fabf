"""Why pip could not: its own words, without the noise, and the next step.

Four things go wrong. A version does not exist: pip lists those that do, of which the nearest are kept. Requirements
contradict one another: pip says who wants what. A build fails: the compiler's first error says more than pip's last
line. Anything else: the last errors that pip printed.
"""

from __future__ import annotations

import bisect
import re

from packaging.version import InvalidVersion, Version

VERSIONS_SHOWN = 12
LINES_SHOWN = 3


def reason(output: str, what: str = "") -> str:
    """Pip's own reason, and the next step; `what` names the version that was wanted."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:") and "Ignored the following" not in line] or lines
    said = " ".join(_shortened(line, what) for line in errors[-LINES_SHOWN:]) or "It said nothing."
    if "No matching distribution" in said:
        return (
            f"pip says: {said} The likeliest cause is a version that was never published, or that has no wheel for "
            "this interpreter. Take one of the versions that pip lists, or another --python."
        )
    conflict = _conflict(output)
    if conflict:
        return (
            f"pip says: {errors[0]} The conflict: {'; '.join(conflict)}. Ask for versions that go together, or leave "
            "one of them out."
        )
    failed = _failed_build(lines)
    if failed:
        return (
            f"pip says: {said} The build says: {' '.join(failed)} The likeliest cause is a release that is older than "
            "this interpreter. Take a later one (--with), or an older --python."
        )
    return f"pip says: {said}"


def _conflict(output: str) -> list[str]:
    """Who wants what, if requirements contradict one another."""
    block = re.search(r"^The conflict is caused by:\n(.*?)(\n\s*\n|\Z)", output, re.MULTILINE | re.DOTALL)
    return [line.strip() for line in block[1].splitlines()] if block is not None else []


def _failed_build(lines: list[str]) -> list[str]:
    """The first error of a build, if one failed."""
    inside = False
    found: list[str] = []
    for line in lines:
        if line.startswith("╰─> ["):
            inside = True
        elif line == "[end of output]":
            break
        elif inside and re.search(r"\b(fatal error|error|\w*Error):", line):
            found.append(line)
    return found[:1]


def _shortened(line: str, what: str) -> str:
    """The list of versions that pip prints, cut to those around the one in `what`."""
    listed = re.search(r"\(from versions: ([^)]*)\)", line)
    if listed is None:
        return line
    known = listed[1].split(", ")
    named = re.search(r"requirement ([\w.-]+)", line)
    wanted = re.search((re.escape(named[1]) if named else "") + r"(?:\[[^]]*\])?\s*==\s*([\w.!+-]+)", what)
    try:
        middle = bisect.bisect([Version(v) for v in known], Version(wanted[1])) if wanted else len(known)
    except InvalidVersion:
        middle = len(known)
    first = max(0, min(middle - VERSIONS_SHOWN // 2, len(known) - VERSIONS_SHOWN))
    shown = known[first : first + VERSIONS_SHOWN]
    around = (["…"] if first else []) + shown + (["…"] if first + len(shown) < len(known) else [])
    return line.replace(listed[1], ", ".join(around))
