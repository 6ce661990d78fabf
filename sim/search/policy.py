"""What a search is made of: a policy walks schedules, and asks for one run after the other.

Rules for this file, and for each policy:

1. A policy chooses which schedules are run. It does not run, judge, count or keep them.
2. It yields each run that counts, and no other.
3. It is `complete` once every schedule was run, or was shown by a reduction to be equivalent to one that was; then,
   and only then, may a verdict be "holds". It says so before it yields the last run, or if it does not know yet that
   this is the last, when it has no other.
4. It depends on nothing but its arguments and the runs: the same search is the same sequence of runs.
5. Between two runs it can say where it is (`state`, in JSON types; None: not just now). Another one, made in the same way
   and given that by `resume`, goes on with the runs that this one would have made.
6. A `Divisible` one can be taken to pieces: given some, it runs what they stand for, in its order, and can say between
   any two runs which pieces are left. What one leaves, others explore, and together they run what one alone would have.

There are two kinds. The *exhaustive* ones go from schedule to schedule in an order of their own. The *samplers* draw
schedules, each in a way that its paper has found good at meeting bugs; what they share is in `sim.search.sampling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sim.search import deepening, exhaustive
from sim.search.coverage import Coverage
from sim.search.deepening import Deepening, Family
from sim.search.drawn import Drawn
from sim.search.exhaustive import Exhaustive, Prefix
from sim.search.pct import Pct
from sim.search.pos import Pos
from sim.search.sampling import Sampling
from sim.search.uniform import Uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.search.frontier import Outlook, Piece
    from sim.search.runner import Run
    from sim.world.choices import Decide
    from sim.world.footprint import Watch

SAMPLES = 10_000
"""Runs that a sampler makes, unless it is told otherwise."""


class Play(Protocol):
    """Plays one schedule: its first picks `forced`, the others as `decide` or `watch` says (neither: 0)."""

    def __call__(
        self, forced: Sequence[int], decide: Decide | None = None, /, *, watch: Watch | None = None
    ) -> Run: ...


class Policy(Protocol):
    """A way to search; see the rules above."""

    @property
    def complete(self) -> bool:
        """Whether every schedule was run, or need not be (rule 3)."""
        ...

    def runs(self, play: Play) -> Iterator[Run]:
        """Run schedules with `play` and yield the runs."""
        ...

    def outlook(self) -> Outlook | None:
        """Between two runs: what it has before it. None: it does not know."""
        ...

    def state(self) -> Any:
        """Between two runs: where it is (rule 5)."""
        ...

    def resume(self, state: Any) -> None:
        """Before the first run: go on from there."""
        ...


class Divisible(Policy, Protocol):
    """A policy that can be taken to pieces (rule 6)."""

    def left(self) -> Sequence[Piece]:
        """Between two runs, and then no more: what is left."""
        ...


class Cut(NamedTuple):
    """How a policy is taken to pieces.

    Attributes:
        everything: the piece that stands for all schedules.
        below: the policy, for pieces that are neighbours and of one level.
        read: a piece from its JSON record.
    """

    everything: Piece
    below: Callable[[Sequence[Any]], Divisible]
    read: Callable[[Any], Piece]


class Entry(NamedTuple):
    """A policy in the list.

    Attributes:
        make: makes it, from a seed.
        summary: what it does, in one line.
        shortest_first: whether it comes to no schedule before it has run all that deviate less.
        samples: how many runs it makes unless it is told otherwise, for a sampler; it then also stops at its first
            discovery. None: the policy ends by itself.
        cut: how it is taken to pieces, if it can be.
    """

    make: Callable[[int], Policy]
    summary: str
    shortest_first: bool = False
    samples: int | None = SAMPLES
    cut: Cut | None = None


POLICIES: dict[str, Entry] = {
    "exhaustive": Entry(
        lambda _: Deepening(),
        "every schedule, fewest deviations first",
        shortest_first=True,
        samples=None,
        cut=Cut(deepening.EVERYTHING, Deepening, Family.from_json),
    ),
    "depth-first": Entry(
        lambda _: Exhaustive(),
        "every schedule, in order of their picks; needs no memory",
        samples=None,
        cut=Cut(exhaustive.EVERYTHING, Exhaustive, Prefix.from_json),
    ),
    "random": Entry(lambda seed: Sampling(Uniform(), seed), "each pick with the same probability"),
    "pct": Entry(lambda seed: Sampling(Pct(), seed), "lanes by priority, with a few changes (PCT)"),
    "pos": Entry(lambda seed: Sampling(Pos(), seed), "events by priority, drawn anew where they race (POS)"),
    "coverage": Entry(
        lambda seed: Sampling(Coverage(), seed), "schedules that are like those which showed something new"
    ),
    "hypothesis": Entry(Drawn, "as Hypothesis draws them; needs the extra asgi-sim[hypothesis]"),
}
"""The policies by name; the first is the default."""
