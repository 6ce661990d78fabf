"""Which line of the program made two runs of one schedule differ.

Theory of operation
===================

That two runs differ shows late: in an event, in what there is to choose from. The line that did it has run before. So
the schedule is run again, some times, under a recorder (`sim.search.lines`) that writes down what each of the program's
own lines does; the first step at which two of these runs part names the line. With it goes what its source tells of
the kind (`sim.search.suspects`), and the values that differ.

Rules for this file:

1. It adds to a `Divergence` that was found, and never finds one: where it sees nothing, the message stays what it was.
2. The first difference need not be the harmful one (an address may be noted and never used). So the first line that
   takes another way, or does what the world records, is named too if it is another one.
3. Between two runs, `disturb` has memory handed out otherwise than in the last one: addresses then differ, as they do
   from process to process.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sim.errors import Divergence, SimError
from sim.search.divergence import differing, disturb
from sim.search.lines import Lines, Place
from sim.search.suspects import addresses
from sim.world.blame import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.search.lines import Recording, Step

TIMES = 6
"""How often a schedule is run in search of a line."""


def named(error: Divergence, again: Callable[[], object]) -> Divergence:
    """The error with the line in its message, if a line can be named.

    Args:
        error: what was found.
        again: runs the schedule once more.
    """
    first: Recording | None = None
    for number in range(TIMES):
        lines = Lines()
        ballast = disturb(number)
        with contextlib.suppress(SimError), lines:
            again()
        del ballast
        if first is None:
            first = lines.recording()
        else:
            said = compare(first, lines.recording())
            if said is not None:
                return Divergence(f"{error} {said}")
    return Divergence(
        f"{error} It was run {TIMES} times more, line by line, and no line of the program did anything else than before."
    )


def compare(one: Recording, two: Recording) -> str | None:
    """The line at which two recorded runs part, in words; None if they are the same."""
    pairs = list(zip(one.steps, two.steps, strict=False))
    parting = next((index for index, (a, b) in enumerate(pairs) if _differ(a, b)), None)
    if parting is None:
        if len(one.steps) == len(two.steps):
            return None
        longer = max(one.steps, two.steps, key=len)
        parting = len(pairs)
        pairs.append((longer[parting], longer[parting]))
    culprit, why = _explain(pairs, parting, one)
    if culprit is None:
        return None
    said = f"Line by line, the runs part at {place(*culprit)} ({why})."
    shown = next((i for i in range(parting, len(pairs)) if _shows(*pairs[i])), None)
    later = _explain(pairs, shown, one)[0] if shown is not None else None
    if later not in (None, culprit):
        assert later is not None
        said += f" What comes of it is first seen at {place(*later)}."
    return said


def _differ(a: Step, b: Step) -> bool:
    return a.kind != b.kind or a.where != b.where or a.values != b.values


def _shows(a: Step, b: Step) -> bool:
    """Whether this difference is one of what is done, not only of what is known."""
    return a.kind != b.kind or a.where != b.where or (a.kind in ("event", "choice") and a.values != b.values)


def _explain(pairs: Sequence[tuple[Step, Step]], index: int, lines: Recording) -> tuple[Place | None, str]:
    """Which line is at fault for the difference there, and why."""
    a, b = pairs[index]
    if a.kind != b.kind or a.where != b.where or a is b:
        culprit = a.before if a.before == b.before or b.before is None else _last_line(pairs[:index])
        return culprit, "; ".join((*_suspected(lines, culprit), "what runs next differs"))
    name = next((n for n in (*a.values, *b.values) if a.values.get(n) != b.values.get(n)), "")
    values = [side.values.get(name, "not there") for side in (a, b)]
    was, then = differing(*values)
    change = f"{name if name.isidentifier() else _WHAT.get(a.kind, name)} was {was}, then {then}"
    if name in a.outer or name in b.outer:
        here = _at(a)
        kept = f"{change}: it is kept from one run to the next"
        return here, "; ".join((kept, *_suspected(lines, here)))
    culprit = a.before or _last_line(pairs[:index])
    return culprit, "; ".join((*_suspected(lines, culprit), *addresses(*values), change))


_WHAT = {"event": "what is recorded", "return": "what it returns", "choice": "the number of possibilities"}


def _suspected(lines: Recording, culprit: Place | None) -> Sequence[str]:
    return lines.suspects.get(culprit, [])[:1] if culprit is not None else ()


def _at(step: Step) -> Place | None:
    return step.where if isinstance(step.where, Place) else step.before


def _last_line(pairs: Sequence[tuple[Step, Step]]) -> Place | None:
    """The program's last line that ran in both runs."""
    return next((_at(a) for a, _ in reversed(pairs) if a.kind == "line"), None)
