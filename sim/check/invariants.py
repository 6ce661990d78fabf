"""Properties of runs.

An `Invariant` is a claim about every run (`always`), about at least one (`sometimes`), or about the end of every run
(`eventually`): Stateright's words. It is checked on a finished trace, so one claim serves the simulator and a real
process alike; it must not look at the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.trace import Event, Trace


@attrs.frozen
class Violation:
    """Where and how a run breaks a claim.

    Attributes:
        message: what happened, in one sentence.
        event: the event at which it shows, or None if it is something that did not happen.
    """

    message: str
    event: Event | None = None


@attrs.frozen
class Invariant:
    """A named claim.

    Attributes:
        name: short, in words joined by hyphens.
        claim: the claim as a sentence.
        check: given a run's trace, the violation or None. For `sometimes`, given a trace, a `Violation` means that
            this run is *no* witness.
        quantifier: "always", "sometimes" or "eventually".
        source: where the claim comes from: an RFC section, a heading of the ASGI specification.
    """

    name: str
    claim: str
    check: Callable[[Trace], Violation | None]
    quantifier: str = "always"
    source: str = ""


def always(name: str, claim: str, *, source: str = "") -> Callable[[Callable[[Trace], Violation | None]], Invariant]:
    """Make an invariant of a function from a trace to a `Violation` or None: it holds in every run."""
    return lambda check: Invariant(name, claim, check, "always", source)


def sometimes(name: str, claim: str, *, source: str = "") -> Callable[[Callable[[Trace], Violation | None]], Invariant]:
    """As `always`, for what at least one run must show: the function returns None for a witness."""
    return lambda check: Invariant(name, claim, check, "sometimes", source)


def eventually(
    name: str, claim: str, *, source: str = ""
) -> Callable[[Callable[[Trace], Violation | None]], Invariant]:
    """As `always`, for what must have happened by the end of every run."""
    return lambda check: Invariant(name, claim, check, "eventually", source)


PROGRESS = Invariant(
    "progress",
    "Every script comes to its end: nothing waits for ever, and no code keeps control for ever.",
    lambda _trace: None,
    "eventually",
)
"""The built-in invariant that a run breaks by getting stuck; the search notes it, the trace cannot."""
