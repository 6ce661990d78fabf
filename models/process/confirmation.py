"""Whether a simulated counterexample happens on a real server: `confirm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from models.asgi.events import AsgiReceived
from models.environments.make import make, parse_requirement
from models.process.plan import Plan
from models.process.replay import replay
from models.process.servers import driver_for
from sim.errors import UsageError
from sim.world.events import TcpSend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.application import Application
    from sim.check.invariants import Invariant
    from sim.world.trace import Event, Trace

_TELLING = frozenset(
    {
        "app.raised",
        "app.returned",
        "app.cancelled",
        "asgi.illegal",
        "asgi.receive_cancelled",
        "asgi.receive_failed",
        "asgi.received",
        "asgi.send_failed",
        "http.cut_off",
        "http.response",
        "log.error",
        "log.warning",
        "tcp.closed",
    }
)
_SHOWN = 12


@attrs.frozen
class Confirmation:
    """What a replay on a real server came to.

    Attributes:
        requirement: the server, as it was asked for.
        version: the version of the server that ran.
        python: the version of the interpreter that ran it.
        confirmed: whether the real run violates every one of the invariants that can be judged, and at least one.
        order_kept: whether the order of the schedule really occurred.
        violations: name of the invariant and what happened, for each that the real run violates.
        trace: what really happened.
        deviation: where the real run left the schedule, or None.
        steps: how many steps of the schedule happened, and how many it has.
        unviolated: names of the invariants that the real run does not violate.
        unjudged: names of those that are about the end of a run, if the real one left the schedule before.
        seconds: how long the replay took, without the making of the environment.
    """

    requirement: str
    python: str
    confirmed: bool
    order_kept: bool
    violations: list[tuple[str, str]]
    trace: Trace
    version: str = ""
    deviation: str | None = None
    steps: tuple[int, int] = (0, 0)
    unviolated: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    seconds: float = 0.0

    def describe(self) -> str:
        """A few lines for a person, beginning with *confirmed* or *not reproduced*."""
        verdict = "confirmed" if self.confirmed else "not reproduced"
        version = "" if self.version in self.requirement else f" ({self.version})"
        where = f"{self.requirement}{version}, a real process on Python {self.python}"
        lines = [f"{verdict} on {where}, in {self.seconds:.1f} s"]
        lines += [f"  violated: {name}: {message}" for name, message in self.violations]
        lines += [f"  not violated: {name}" for name in self.unviolated]
        lines += [f"  not judged, for the run left the schedule before its end: {name}" for name in self.unjudged]
        done, total = self.steps
        if self.order_kept:
            lines.append(f"  the order of the schedule was kept, all {total} steps")
        else:
            lines.append(f"  the order of the schedule was not kept, {done} of {total} steps came: {self.deviation}")
        lines.append("  seen:")
        lines += [f"  {event}" for event in self._shown()]
        return "\n".join(lines)

    def _shown(self) -> list[Event]:
        told = [e for e in self.trace if e.actor != "lifespan" and (e.kind in _TELLING or e.kind.startswith("ws."))]
        return told[-_SHOWN:]


def confirm(
    trace: Trace,
    application: Application,
    *,
    requirement: str,
    invariants: Sequence[Invariant],
    python: str | None = None,
    shutdown: bool | None = None,
    say: Callable[[str], None] | None = None,
) -> Confirmation:
    """Replay a simulated run on a real server process and judge what really happens.

    Args:
        trace: of the finished simulated run.
        application: what the server served in it.
        requirement: the server, such as `granian==1.3.2`.
        invariants: those that the simulated run violates.
        python: None for this interpreter, a version such as "3.10", or a path.
        shutdown: whether the server gets SIGTERM in the end, as the world's settings say of the simulated one. None: if
            the simulated application was told of the shutdown.
        say: told about the progress.

    Raises:
        UsageError: no such interpreter, the server cannot be installed or has no driver, or nothing can be replayed.
        StartupError: the server process did not come up.
    """
    server = parse_requirement(requirement)
    driver = driver_for(server)
    plan = Plan.of(trace)
    if not plan.outer:
        raise UsageError("there is nothing to replay: in this run no client's segment reached the server.")
    if any(event.segment not in ("SYN", "FIN", "RST") and not event.data for event in trace.of(TcpSend)):
        raise UsageError("the run speaks TLS, whose bytes cannot be replayed on another server. Search without TLS.")
    environment = make(
        [*driver.to_install(server), *application.requires],
        python=python,
        wheels_only=[driver.name] if driver.wheels_only else [],
        say=say,
    )
    if say is not None:
        say(f"replaying {len(plan.steps)} steps on {requirement} with Python {environment.python_version}")
    if shutdown is None:
        shutdown = any(e.message["type"] == "lifespan.shutdown" for e in trace.of(AsgiReceived))
    reality = replay(plan, application, driver, environment, server, shutdown=shutdown)
    can_judge = [i for i in invariants if reality.complete or i.quantifier != "eventually"]
    judged = [(invariant.name, invariant.check(reality.trace)) for invariant in can_judge]
    violations = [(name, violation.message) for name, violation in judged if violation is not None]
    return Confirmation(
        requirement=requirement,
        version=environment.version_of(driver.name),
        python=environment.python_version,
        confirmed=bool(violations) and len(violations) == len(judged),
        order_kept=reality.deviation is None,
        violations=violations,
        trace=reality.trace,
        deviation=reality.deviation,
        steps=reality.steps,
        unviolated=tuple(name for name, violation in judged if violation is None),
        unjudged=tuple(i.name for i in invariants if i not in can_judge),
        seconds=reality.seconds,
    )
