"""Every schedule once, fewest deviations first, so that the first counterexample is already the shortest.

Theory of operation
===================

A *deviation* is a pick that is not 0. Level 0 is the one schedule without any; level d + 1 is made from level d: take
a run and let it deviate once more, *behind its last deviation*. A schedule has one last deviation, so it is made from
exactly one other, the one without it; so each is made once, in the level of its deviations, and no run is repeated.

Rules for this file:

1. A run that has no choice behind its last deviation has no children, and is forgotten at once.
2. What is kept of another is one line: the picks up to its last deviation, and the width of each of its choices.
3. The forced part of a run must ask the questions that its parent asked; a different width is a `Divergence`.

The price is memory for one level and the next, some hundred bytes for a run: in memory while they are few, in files
behind that (`SPILL`). `depth-first` (`sim.search.exhaustive`) runs the same schedules in another order, with none.

This is iterative deepening as in Musuvathi and Qadeer's iterative context bounding (PLDI 2007), with deviations from
FIFO in place of preemptions. They re-run the inner nodes of their tree for each level; this does not.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from typing import TYPE_CHECKING, Protocol, TypeVar

from sim.search.divergence import same_widths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.world.choices import Choice


class Walked(Protocol):
    """A run, as far as this policy looks at one."""

    @property
    def choices(self) -> list[Choice]:
        """Its decisions."""
        ...


R = TypeVar("R", bound=Walked)
SPILL = 1 << 24
"""Characters of one level that are kept in memory; more go to a file."""


class Deepening:
    """The policy "exhaustive" (see `sim.search.policy`)."""

    def __init__(self) -> None:
        self.complete = False

    def runs(self, play: Callable[[Sequence[int]], R]) -> Iterator[R]:
        """Every run there is, level by level."""
        with contextlib.ExitStack() as stack:
            run = play(())
            level = stack.enter_context(Level())
            level.put(run.choices, 0)
            self.complete = not level.left
            yield run
            while level.left:
                deeper = stack.enter_context(Level())
                for picks, widths in level:
                    for forced in children(picks, widths):
                        run = play(forced)
                        same_widths(widths[: len(forced)], run.choices)
                        deeper.put(run.choices, len(forced))
                        level.left -= 1
                        self.complete = not level.left and not deeper.left
                        yield run
                level.close()
                level = deeper


def children(picks: Sequence[int], widths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The forced picks of each schedule that deviates once more than `picks`, behind them."""
    for position in range(len(picks), len(widths)):
        behind = (*picks, *(0 for _ in range(len(picks), position)))
        for pick in range(1, widths[position]):
            yield (*behind, pick)


class Level:
    """The runs of one level that have children, in the order in which they were made: written once, then read once.

    Attributes:
        left: how many children they have that were not run yet.
    """

    def __init__(self) -> None:
        self.left = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=SPILL, mode="w+", encoding="ascii")  # noqa: SIM115 - close() does

    def __enter__(self) -> Level:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def put(self, made: Sequence[Choice], behind: int) -> None:
        """Add a run whose last deviation is the choice in front of number `behind`."""
        added = sum(choice.width - 1 for choice in made[behind:])
        if added:
            picks = [choice.pick for choice in made[:behind]]
            self._file.write(json.dumps((picks, [choice.width for choice in made]), separators=(",", ":")) + "\n")
            self.left += added

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        self._file.seek(0)
        for line in self._file:
            picks, widths = json.loads(line)
            yield tuple(picks), widths
