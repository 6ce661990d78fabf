"""Every schedule once: depth first over the tree of choices, by replay from the root.

Theory of operation
===================

A run makes choices 1, 2, ... n; the first so many are forced, the rest are 0. The next schedule keeps the longest
prefix whose last pick can still be raised, raises it by one, and forgets what was behind: counting, with digits whose
base is found out on the way. When no pick can be raised, every schedule was run once. Schedules are therefore run in
the order of their picks.

Nothing is stored but the current schedule, so the search needs no memory however long it takes. The forced part of a
run must ask the questions that it asked before; a different width is a `Divergence`, found at once.

A part of the tree is explored in the same way: below a prefix, whose picks are not raised. What is left of it at any
moment is again made of prefixes, one for each way in which a pick of the current schedule could still be raised. So a
search can be stopped between any two runs and go on elsewhere, in one piece or in many.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from sim.search.divergence import same_questions, same_widths
from sim.search.frontier import Outlook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.search.runner import Run
    from sim.world.choices import Choice


@attrs.frozen
class Prefix:
    """A piece: every schedule that begins with these picks.

    Whoever explores it, perhaps on another machine, compares the widths with what its own world offers.

    Attributes:
        picks: the picks.
        widths: of each, how many possibilities there were.
    """

    picks: tuple[int, ...]
    widths: tuple[int, ...]

    level = 0
    schedules = 1

    @property
    def key(self) -> tuple[int, ...]:
        """See `Piece`."""
        return self.picks

    @property
    def share(self) -> float:
        """See `Piece`."""
        return math.prod(1 / width for width in self.widths)

    def to_json(self) -> list[Any]:
        """See `Piece`."""
        return [list(self.picks), list(self.widths)]

    @classmethod
    def from_json(cls, record: Any) -> Prefix:
        """The prefix that `to_json` made a record of."""
        picks, widths = record
        return cls(tuple(picks), tuple(widths))


EVERYTHING = Prefix((), ())


class Exhaustive:
    """The policy "depth-first" (see `sim.search.policy`).

    Args:
        below: the prefixes to explore, in order.
    """

    def __init__(self, below: Sequence[Prefix] = (EVERYTHING,)) -> None:
        self.complete = False
        self._waiting = list(below)[::-1]
        self._made: Sequence[Choice] = ()
        self._floor = 0

    def runs(self, play: Callable[[Sequence[int]], Run]) -> Iterator[Run]:
        """Every run there is below the prefixes."""
        while self._waiting:
            prefix = self._waiting.pop()
            self._floor = len(prefix.picks)
            self._made = ()
            forced: tuple[int, ...] | None = prefix.picks
            while forced is not None:
                run = play(forced)
                if self._made:
                    same_questions(self._made[: len(forced)], run.choices)
                else:
                    same_widths(prefix.widths, run.choices)
                self._made = run.choices
                forced = following(self._made, self._floor)
                self.complete = forced is None and not self._waiting
                yield run

    def outlook(self) -> Outlook:
        """See `Policy`."""
        left = self.left()
        return Outlook(len(left), sum(prefix.share for prefix in left))

    def state(self) -> Any:
        """See `Policy`."""
        return [prefix.to_json() for prefix in self.left()]

    def resume(self, state: Any) -> None:
        """See `Policy`."""
        self._waiting = [Prefix.from_json(record) for record in state][::-1]
        self.complete = not self._waiting

    def left(self) -> list[Prefix]:
        """See `sim.search.policy.Divisible`."""
        return [*beside(self._made, self._floor), *self._waiting[::-1]]


def following(made: Sequence[Choice], floor: int = 0) -> tuple[int, ...] | None:
    """The forced picks of the schedule behind this one; None if it is the last with the same first `floor` picks."""
    last = len(made) - 1
    while last >= floor and made[last].pick + 1 >= made[last].width:
        last -= 1
    return (*(choice.pick for choice in made[:last]), made[last].pick + 1) if last >= floor else None


def beside(made: Sequence[Choice], floor: int) -> list[Prefix]:
    """What is still to be explored behind a run, in order.

    Args:
        made: the run's choices.
        floor: how many of the first are not to be changed.
    """
    picks = tuple(choice.pick for choice in made)
    widths = tuple(choice.width for choice in made)
    return [
        Prefix((*picks[:depth], pick), widths[: depth + 1])
        for depth in range(len(made) - 1, floor - 1, -1)
        for pick in range(picks[depth] + 1, widths[depth])
    ]
