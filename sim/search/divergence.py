"""Whether two runs of one schedule are one run; if not, the first difference.

A world is meant to be reproducible from its choices. These functions are the net below that promise: the searches
call them on each forced prefix, and on the whole of a sample of runs.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from sim.check.invariants import PROGRESS
from sim.errors import Divergence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.search.runner import Run
    from sim.world.choices import Choice
    from sim.world.trace import Trace

SHOWN = 120
"""Characters of a differing value in a message."""

SUSPECTS = (
    "Something differs from run to run that is not under the world's control. The usual suspects: the order of a set, "
    "id() or hash() of an object, state that a module keeps from one run to the next, an extension module that reads "
    "a real clock or real entropy."
)

SIZES = range(16, 513, 16)
"""Bytes of the objects that share a stock of CPython's allocator."""


def disturb(number: int) -> list[object]:
    """Take some memory of each size, other amounts for each `number`; it is given back with what is returned.

    While it is held, objects get other addresses than in the last run, as they would from process to process: what
    depends on them shows.
    """
    held: list[object] = []
    for index, size in enumerate(SIZES):
        count = (number * 7 + index * 3) % 11
        held += [bytes(size - 33) for _ in range(count)] if size > 33 else [float(n) for n in range(count)]
    held += (
        [{} for _ in range(number * 5 % 7)]
        + [[] for _ in range(number * 3 % 7)]
        + [object() for _ in range(number % 5)]
    )
    held += [_Held() for _ in range(number * 11 % 13)] + [set() for _ in range(number * 2 % 5)]
    return held


class _Held:
    """Of the size of most programs' objects."""


def same_questions(before: Sequence[Choice], after: Sequence[Choice]) -> None:
    """Compare the choices of two runs that were forced alike.

    Raises:
        Divergence: at the first difference.
    """
    for index, old in enumerate(before):
        if index >= len(after):
            found = "now the run ends before it"
        elif after[index].width != old.width:
            found = f"now there are {after[index].width} ({after[index].label})"
        else:
            continue
        raise unlike(f"Choice {index + 1} had {old.width} possibilities ({old.label}); {found}.")


def same_widths(before: Sequence[int], after: Sequence[Choice]) -> None:
    """The same, where of the first run only the width of each choice is known.

    Raises:
        Divergence: at the first difference.
    """
    for index, width in enumerate(before):
        if index >= len(after):
            raise unlike(f"Choice {index + 1} had {width} possibilities; now the run ends before it.")
        if after[index].width != width:
            found = f"now there are {after[index].width} ({after[index].label})"
            raise unlike(f"Choice {index + 1} had {width} possibilities; {found}.")


def same_traces(first: Trace, second: Trace, *, beginning: bool = False) -> None:
    """Compare two runs event by event; the first may be only the `beginning` of the second.

    Raises:
        Divergence: at the first difference.
    """
    if first.events == (second.events[: len(first)] if beginning else second.events):
        return
    for number, (a, b) in enumerate(zip(first.events, second.events, strict=False)):
        if a == b:
            continue
        one, two = a.to_json(), b.to_json()
        if one["event"] != two["event"] or one["actor"] != two["actor"]:
            was, then = (_excerpt(f"{e.kind} by {e.actor}: {e.describe()}", 0) for e in (a, b))
            raise unlike(f"Event {number} was {was}; now it is {then}.")
        for field in one:
            if one.get(field) != two.get(field):
                was, then = differing(repr(one.get(field)), repr(two.get(field)))
                raise unlike(
                    f"Event {number} ({a.kind} by {a.actor}, at {a.time:g} s) had {field} = {was}; now it is {then}."
                )
    if len(first) != len(second):
        raise unlike(f"The first has {len(first)} events; now there are {len(second)}.")


def digest(trace: Trace) -> int:
    """A number that tells whether a run is the one that it was, also in another process.

    What applications and logs say of themselves is left out: it may name files, which lie elsewhere on other machines.
    """
    return zlib.crc32(
        "".join(
            f"{event.time:.9f} {event.kind} {event.actor} "
            f"{'' if event.kind.startswith(('app.', 'log.')) else event.to_json()}\n"
            for event in trace
        ).encode("utf-8", "backslashreplace")
    )


def same_judgement(first: Run, second: Run) -> None:
    """Compare what was said of two runs that are the same.

    How a run got stuck is left out: a watchdog names the line that it met.

    Raises:
        Divergence: an invariant, or the scenario's `observe`, said two things of one run.
    """
    for one, two in (_said(first), _said(second)), (first.observed, second.observed):
        if one != two:
            raise Divergence(
                f"the same run was judged in two ways, as {one} and as {two}. An invariant, or the scenario's observe, "
                "keeps something from one run to the next; it must depend on nothing but the trace."
            )


def _said(run: Run) -> list[tuple[str, str]]:
    return [(i.name, v.message if i is not PROGRESS else "stuck") for i, v in run.violations]


def unlike(difference: str) -> Divergence:
    """The error for two different runs of one schedule: the first difference, and the usual suspects."""
    return Divergence(f"the same schedule gave two different runs. {difference} {SUSPECTS}")


def differing(one: str, two: str) -> tuple[str, str]:
    """Both values, cut to where they begin to differ."""
    same = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    start = 0 if max(len(one), len(two)) <= SHOWN else max(0, same - SHOWN // 4)
    return _excerpt(one, start), _excerpt(two, start)


def _excerpt(text: str, start: int) -> str:
    return ("..." if start else "") + text[start : start + SHOWN] + ("..." if len(text) > start + SHOWN else "")
