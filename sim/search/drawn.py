"""Hypothesis draws the picks.

MacIver, Donaldson, "Test-Case Reduction via Test-Case Generation: Insights From the Hypothesis Reducer" (ECOOP 2020) is
the paper on the library. Its generator mixes fresh draws with variations of what it has drawn, and never repeats a
sequence of draws within one test. Here each pick is one draw; `sim.strategies` does the same inside tests of your own.

Hypothesis calls a test, and a policy is asked for runs: so a test of `BATCH` examples is run to its end and its runs
are handed on, then another, with a seed of its own. What was run before a test began is kept out of it
(`sim.search.seen`), and only runs that are new count. Its database, deadlines and shrinker
are off: what is found is shrunk by `sim.search.shrink`, like every other policy's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.errors import UsageError
from sim.search.seen import Seen
from sim.world.active import current_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim.search.policy import Play
    from sim.search.runner import Run
    from sim.world.choices import Decide

BATCH = 50
"""Examples of one test. Their runs are held together, so this bounds memory."""


class _Ended(BaseException):
    """Takes an error through Hypothesis, which would try it again and shrink it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Drawn:
    """The policy "hypothesis" (see `sim.search.policy`)."""

    def __init__(self, seed: int) -> None:
        self.complete = False
        self._seed = seed
        self._seen = Seen()
        self._next = 0
        self._between = True
        """Whether the last run was the last of its test."""

    def outlook(self) -> None:
        """See `Policy`: nobody knows."""

    def runs(self, play: Play) -> Iterator[Run]:
        """Runs without end, or until every schedule was run.

        Raises:
            UsageError: Hypothesis is not installed.
        """
        batch = _batch()
        while not self.complete:
            number, self._next = self._next, self._next + 1
            runs = batch(lambda decide: play((), self._seen.bend(decide)), f"{self._seed} {number}")
            new = [run for run in runs if self._seen.add(run.choices)]
            for left, run in zip(range(len(new) - 1, -1, -1), new, strict=True):
                self.complete = self._seen.all and not left
                self._between = not left
                yield run

    def state(self) -> Any:
        """See `Policy`: only between two tests."""
        return [self._next, self._seen.to_json()] if self._between else None

    def resume(self, state: Any) -> None:
        """See `Policy`."""
        self._next, seen = state
        self._seen = Seen.from_json(seen)
        self.complete = self._seen.all


def _batch() -> Callable[[Callable[[Decide], Run], str], list[Run]]:
    """What draws a batch of runs, given how to play one, and a seed."""
    try:
        from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
        from hypothesis import strategies as st
    except ImportError:
        raise UsageError(
            "--search hypothesis needs Hypothesis, and it is not installed here. Install it: "
            "pip install 'asgi-sim[hypothesis]'."
        ) from None

    def batch(play: Callable[[Decide], Run], name: str) -> list[Run]:
        made: list[Run] = []

        @seed(name)
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            derandomize=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(st.data())
        def draw(data: Any) -> None:
            try:
                made.append(play(gently(lambda width, _label: data.draw(st.integers(0, width - 1)))))
            except Exception as exc:
                raise _Ended(exc) from exc

        try:
            draw()
        except _Ended as ended:
            raise ended.error from ended.error.__cause__
        return made

    return batch


def gently(draw: Decide) -> Decide:
    """`draw`, but an end that Hypothesis makes of an example (it can draw no more) comes between two turns of the world.

    It would else go through the event loop in the middle of whatever that does.
    """
    ended = False

    def decide(width: int, label: object) -> int:
        nonlocal ended
        if ended:
            return 0
        try:
            return draw(width, label)
        except BaseException as exc:
            world = current_world()
            if world is None:
                raise
            ended = True
            world.fail(exc)
            return 0

    return decide
