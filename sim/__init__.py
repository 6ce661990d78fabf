"""Deterministic simulation of servers: every order in which things can happen, on the real code, with a verdict.

The engine knows asyncio, sockets and TCP; protocols and servers are in `models`, stories in `scenarios`.

    import sim

    report = sim.explore("unsolicited_pong", server="granian==1.4.1")
    report.verdict, report.runs, report.discovery

    schedule = report.discovery.schedule
    runner, run = sim.replay(schedule)
    print(*run.trace, sep="\\n")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.check.invariants import Invariant, Violation, always, eventually, sometimes
    from sim.check.scenario import Param, Scenario
    from sim.errors import BoundaryError, Divergence, SimError, StartupError, Stuck, UsageError
    from sim.search.explore import Progress, explore, replay
    from sim.search.failure import CheckFailed
    from sim.search.parallel import explore_many
    from sim.search.report import Discovery, Observation, Report
    from sim.search.schedule import Schedule
    from sim.world.faults import Faults
    from sim.world.host import Connection, Host
    from sim.world.trace import Event, Trace
    from sim.world.world import Settings, World

_HOMES = {
    "sim.check.invariants": ("Invariant", "Violation", "always", "eventually", "sometimes"),
    "sim.check.scenario": ("Param", "Scenario"),
    "sim.errors": ("BoundaryError", "Divergence", "SimError", "StartupError", "Stuck", "UsageError"),
    "sim.search.explore": ("Progress", "explore", "replay"),
    "sim.search.failure": ("CheckFailed",),
    "sim.search.parallel": ("explore_many",),
    "sim.search.report": ("Discovery", "Observation", "Report"),
    "sim.search.schedule": ("Schedule",),
    "sim.world.faults": ("Faults",),
    "sim.world.host": ("Connection", "Host"),
    "sim.world.trace": ("Event", "Trace"),
    "sim.world.world": ("Settings", "World"),
}
"""Where the public names live. They are imported when they are asked for, so that `import sim` costs nothing: pytest
imports this package, for its plugin, in every run of everybody who has it installed."""

__all__ = [
    "BoundaryError",
    "CheckFailed",
    "Connection",
    "Discovery",
    "Divergence",
    "Event",
    "Faults",
    "Host",
    "Invariant",
    "Observation",
    "Param",
    "Progress",
    "Report",
    "Scenario",
    "Schedule",
    "Settings",
    "SimError",
    "StartupError",
    "Stuck",
    "Trace",
    "UsageError",
    "Violation",
    "World",
    "always",
    "eventually",
    "explore",
    "explore_many",
    "replay",
    "sometimes",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
