"""Takes the runs of a search, or of a piece of one, as they come, and makes a `Part` of them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from sim.search.divergence import disturb, same_judgement, same_questions, same_traces
from sim.search.part import Part, count, digest
from sim.world.events import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.search.runner import Run, Runner
    from sim.world.choices import Choice

RERUN_EVERY = 50
"""Of so many runs, about one is run again to look for nondeterminism."""
RERUN_AT_LEAST = 8
"""About so many runs of a small search are."""
REMEMBERED = 256
"""Outcomes whose digests are remembered: most runs come to one of a few."""


class Tally:
    """Counts runs; memory does not grow with their number.

    Args:
        runner: what runs and judges.
        merging: whether runs of one past are taken for one, so that what the scenario says of it has to be true.
        first: the first run that this process has made of the search. None: it will be the first that is added.
        part: what is known already. None: nothing.

    Attributes:
        part: what is known of the runs so far.
        first: see above.
    """

    def __init__(
        self, runner: Runner, *, merging: bool = False, first: Run | None = None, part: Part | None = None
    ) -> None:
        self._runner = runner
        self._merging = merging
        self.part = part if part is not None else Part()
        self.first = first
        sometimes = [i for i in runner.scenario.invariants if i.quantifier == "sometimes"]
        self._unwitnessed = [i for i in sometimes if i.name not in self.part.witnessed]
        self._digests: dict[object, bytes] = {}

    def add(self, run: Run, *, sampled: bool = True) -> None:
        """Count a run and keep what it shows; if `sampled`, perhaps run it a second time.

        Raises:
            Divergence: it was run a second time, and gave another run.
        """
        part = self.part
        part.runs += 1
        if self.first is None:
            self.first = run
        if sampled and in_sample(run.choices):
            part.reruns += 1
            self._rerun(run)
        if self._runner.settings.faults:
            for name in {event.fault for event in run.trace.of(Fault)}:
                part.struck[name] = part.struck.get(name, 0) + 1
        if not run.known:
            part.outcomes.add(self._digest(run.trace.outcome()))
            if run.cut is not None:
                part.cut.add(run.cut)
        if run.violations or run.observed is not None or self._unwitnessed:
            self._keep(run)

    def _digest(self, outcome: object) -> bytes:
        try:
            known = self._digests.get(outcome)
        except TypeError:  # some event holds a list or a dictionary
            return digest(outcome)
        if known is None:
            if len(self._digests) >= REMEMBERED:
                self._digests.clear()
            known = self._digests[outcome] = digest(outcome)
        return known

    def _keep(self, run: Run) -> None:
        part = self.part
        for invariant, violation in run.violations:
            count(part.found, invariant.name, run, violation)
        if run.known:
            return
        if run.observed is not None:
            count(part.observed, run.observed, run)
        for invariant in self._unwitnessed[:]:
            missing = invariant.check(run.trace)
            if missing is None:
                self._unwitnessed.remove(invariant)
                part.witnessed.add(invariant.name)
                part.plainest.pop(invariant.name, None)
            else:
                count(part.plainest, invariant.name, run, missing)

    def finish(self) -> None:
        """Run the first schedule once more: what has changed slowly, a cache or a counter, shows by now.

        Raises:
            Divergence: it gave another run.
        """
        if self.first is not None and self.part.runs > 1:
            self._rerun(self.first)

    def _rerun(self, run: Run) -> None:
        looked_at = run.known or not self._merging
        held = disturb(self.part.reruns)
        again = self._runner.run(run.picks, on_end=None if looked_at else self._runner.same_past)
        del held
        same_questions(run.choices, again.choices)
        same_traces(run.trace, again.trace, beginning=run.known)
        if not run.known:
            same_judgement(run, again)


def in_sample(choices: Sequence[Choice]) -> bool:
    """Whether a run is one of the sample that is run a second time.

    It depends on the schedule alone, so that the sample is the same however a search is cut into parts. How many runs
    a search has is not known before its end; the product of the widths of one run's choices is a guess at it.
    """
    guess = 1
    for choice in choices:
        guess *= choice.width
        if guess > RERUN_EVERY * RERUN_AT_LEAST:
            break
    every = min(RERUN_EVERY, -(-guess // RERUN_AT_LEAST))
    return zlib.crc32(repr([choice.pick for choice in choices]).encode()) % every == 0
