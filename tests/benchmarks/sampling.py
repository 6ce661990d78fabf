"""Where CPU time goes, by sampling: whose code runs, at thousands of moments.

A profiler that counts calls makes small functions look expensive. Here the kernel sends SIGPROF after each so many
microseconds of *CPU time* of this process (`setitimer(ITIMER_PROF)`), and the handler looks at the innermost frame.

Python calls a handler not at once but where the interpreter next looks for signals: at the beginning of a Python
function, at the end of a loop's round, and when a call of C code has returned. A sample at a call's own instruction is
therefore one of the C code that it called, or of the few instructions since the last such place; these are told apart
as *built-ins* (`_call` of the profile) from the owner's own code, and both are given.
"""

from __future__ import annotations

import collections
import dis
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

INTERVAL = 0.001
"""CPU seconds between two samples; a kernel that counts in ticks makes it a few times as many."""
OTHER = "other"
_CALLS = frozenset(name for name in dis.opmap if name.startswith("CALL"))


@attrs.define
class Profile:
    """Samples by owner: of its own code, and of the built-ins that it calls."""

    own: collections.Counter[str] = attrs.field(factory=collections.Counter)
    called: collections.Counter[str] = attrs.field(factory=collections.Counter)
    lines: collections.Counter[str] = attrs.field(factory=collections.Counter)

    @property
    def samples(self) -> int:
        return self.own.total() + self.called.total()

    def share(self, owner: str) -> float:
        """An owner's own code's part of all samples."""
        return self.own[owner] / max(self.samples, 1)

    def with_built_ins(self, owner: str) -> float:
        """The same with the built-ins that it calls."""
        return (self.own[owner] + self.called[owner]) / max(self.samples, 1)


def profile(work: Callable[[], object], owners: dict[str, str]) -> Profile:
    """Call `work()` and sample it. In the main thread only.

    Args:
        work: what to look at.
        owners: names of owners by a part of their files' paths; the first that fits counts. None does: `OTHER`.
    """
    found = Profile()
    known: dict[CodeType, tuple[str, frozenset[int]]] = {}

    def look(_number: int, frame: FrameType | None) -> None:
        assert frame is not None
        code = frame.f_code
        if code not in known:
            path = code.co_filename
            owner = next((owner for part, owner in owners.items() if part in path), OTHER)
            known[code] = owner, _call_sites(code)
        owner, calls = known[code]
        (found.called if frame.f_lasti in calls else found.own)[owner] += 1
        found.lines[f"{owner}: {os.path.basename(code.co_filename)}:{code.co_name}"] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    return found


def _call_sites(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions of a code object that call."""
    sites: Any = dis.get_instructions(code)
    return frozenset(i.offset for i in sites if i.opname in _CALLS)


OWNERS = {
    f"{os.sep}sim{os.sep}": "sim",
    "generated methods sim.": "sim",
    "generated methods models.": "models",
    f"{os.sep}models{os.sep}": "models",
    f"{os.sep}uvicorn{os.sep}": "uvicorn",
    f"{os.sep}wsproto{os.sep}": "wsproto",
    f"{os.sep}h11{os.sep}": "h11",
    f"{os.sep}websockets{os.sep}": "websockets (client)",
    f"{os.sep}asyncio{os.sep}": "asyncio",
    f"{os.sep}python{sys.version_info[0]}.{sys.version_info[1]}{os.sep}": "rest of the standard library",
}
"""By the place of files, in this order."""
