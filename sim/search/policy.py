"""What a search is made of: a policy walks schedules, and asks for one run after the other.

Rules for this file, and for each policy:

1. A policy chooses which schedules are run. It does not run, judge, count or keep them.
2. It yields each run that counts, and no other.
3. It is `complete` once every schedule was run, or was shown by a reduction to be equivalent to one that was; then,
   and only then, may a verdict be "holds". It says so before it yields the last run.
4. It depends on nothing but its arguments and the runs: the same search is the same sequence of runs.
5. It explores what is below the prefixes that it is given, in the order of picks, and can say between any two runs
   which prefixes are left. What one policy leaves, others explore, and together they run what one alone would have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sim.search.exhaustive import Exhaustive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.search.prefixes import Prefix
    from sim.search.runner import Run


class Play(Protocol):
    """Plays one schedule: its first picks `forced`, the others 0."""

    def __call__(self, forced: Sequence[int], /) -> Run: ...


class Policy(Protocol):
    """A way to search; see the rules above."""

    complete: bool

    def runs(self, play: Play) -> Iterator[Run]:
        """Run schedules with `play` and yield the runs."""
        ...

    def left(self) -> list[Prefix]:
        """What has not been explored, in order."""
        ...


POLICIES: dict[str, Callable[[Sequence[Prefix]], Policy]] = {"exhaustive": Exhaustive}
"""The policies by name."""
