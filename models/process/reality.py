"""What a replay saw, put together: one trace, and whether it was in the order of the plan.

Events of the two processes and lines of the server's log are put in order by the monotonic clock. A line of the log
gets the time at which it was read, which is a little later than when it was printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from models.process.plan import AppStep, Plan
from models.process.servers import Driver, records
from sim.world.clock import Clock
from sim.world.events import LoggedError, LoggedWarning
from sim.world.trace import Event, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable


@attrs.frozen
class Reality:
    """What really happened.

    Attributes:
        trace: in the vocabulary of the simulator's traces.
        complete: whether the plan came to its end.
        deviation: where the real run left the plan; None if the steps of the plan all happened, in its order.
        steps: how many steps of the plan were done, and how many it has.
        seconds: how long it took, with the server's start.
    """

    trace: Trace
    complete: bool
    deviation: str | None
    steps: tuple[int, int]
    seconds: float


@attrs.define
class Seen:
    """An event, as it came in."""

    time: float
    kind: type[Event]
    actor: str
    fields: tuple[Any, ...]
    cause: Seen | None = None


def trace_of(seen: Iterable[Seen]) -> Trace:
    """The events as a trace; its time begins with the first."""
    ordered = sorted(seen, key=lambda s: s.time)
    clock = Clock()
    trace = Trace(clock)
    numbers: dict[int, int] = {}
    for event in ordered:
        clock.now = event.time - ordered[0].time
        trace.cause = numbers.get(id(event.cause))
        numbers[id(event)] = trace.record(event.kind, event.actor, *event.fields).seq
    return trace


def logged_by(server: str, driver: Driver, printed: Iterable[tuple[float, str]]) -> list[Seen]:
    """The records from WARNING up in what a server printed."""
    found = []
    for record in records(printed, driver.log):
        if record.level in ("WARNING", "ERROR", "CRITICAL"):
            kind = LoggedWarning if record.level == "WARNING" else LoggedError
            fields = (record.level, driver.logger, record.message, record.exception)
            found.append(Seen(record.time, kind, server, fields))
    return found


def first_disorder(plan: Plan, times: Iterable[tuple[float, int]]) -> str | None:
    """The first step that came at another place among the outer steps and those of its own actor; None if none did.

    Args:
        plan: the plan.
        times: when each step happened, with its number.
    """
    latest: dict[str, int] = {}
    for _, number in sorted(times):
        step = plan.steps[number]
        actors = [step.actor] if isinstance(step, AppStep) else ["", *latest]
        before = max(latest.get(actor, -1) for actor in [*actors, ""])
        if number < before:
            return f"out of order: {step}, which came after: {plan.steps[before]}"
        for actor in actors:
            latest[actor] = number
    return None
