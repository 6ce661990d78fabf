"""Takes the runs of one search as they come, and makes a `Part` of them; at the end, a report of the whole."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import attrs

from sim.check.invariants import PROGRESS
from sim.search.divergence import same_judgement, same_questions, same_traces
from sim.search.part import Best, Part, digest, keep, rank_of
from sim.search.report import Discovery, Observation, Report

if TYPE_CHECKING:
    from sim.search.report import Bound
    from sim.search.runner import Run, Runner
    from sim.world.choices import Choice

RERUN_EVERY = 50
"""Of so many runs, about one is run again to look for nondeterminism."""
RERUN_AT_LEAST = 8
"""About so many runs of a small search are."""
REMEMBERED = 256
"""Outcomes whose digests are remembered: most runs come to one of a few."""


class Tally:
    """Counts runs; memory does not grow with their number."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.part = Part()
        self._unwitnessed = [i for i in runner.scenario.invariants if i.quantifier == "sometimes"]
        self._digests: dict[object, bytes] = {}
        self._first: Run | None = None

    def add(self, run: Run, *, sampled: bool = True) -> None:
        """Count a run and keep what it shows; if `sampled`, perhaps run it a second time.

        Raises:
            Divergence: it was run a second time, and gave another run.
        """
        part = self.part
        part.runs += 1
        if self._first is None:
            self._first = run
        if sampled and in_sample(run.choices):
            part.reruns += 1
            self._rerun(run)
        part.outcomes.add(self._digest(run.trace.outcome()))
        part.cut = part.cut or run.cut
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
        rank, picks = rank_of(run), run.picks
        for invariant, violation in run.violations:
            seq = violation.event.seq if violation.event is not None else None
            keep(part.found, invariant.name, Best(rank, picks, violation.message, seq))
        if run.observed is not None:
            keep(part.observed, run.observed, Best(rank, picks))
        for invariant in self._unwitnessed[:]:
            missing = invariant.check(run.trace)
            if missing is None:
                self._unwitnessed.remove(invariant)
                part.witnessed.add(invariant.name)
            elif invariant.name not in part.plainest or rank < part.plainest[invariant.name].rank:
                seq = missing.event.seq if missing.event is not None else None
                part.plainest[invariant.name] = Best(rank, picks, missing.message, seq)

    def finish(self) -> None:
        """Run the first schedule once more: what has changed slowly, a cache or a counter, shows by now.

        Raises:
            Divergence: it gave another run.
        """
        if self._first is not None and self.part.runs > 1:
            self._rerun(self._first)

    def _rerun(self, run: Run) -> None:
        again = self._runner.run(run.picks)
        same_questions(run.choices, again.choices)
        same_traces(run.trace, again.trace)
        same_judgement(run, again)


def in_sample(choices: list[Choice]) -> bool:
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


def report(
    runner: Runner, part: Part, *, complete: bool, bound: Bound | None, seconds: float, settings: dict[str, Any]
) -> Report:
    """The answer, once there is nothing more to add."""
    invariants = {i.name: i for i in (PROGRESS, *runner.scenario.invariants)}
    unwitnessed = [i.name for i in runner.scenario.invariants if i.name in part.plainest.keys() - part.witnessed]
    found = sorted(part.found.items(), key=lambda item: item[1].rank)
    if complete:
        for name in unwitnessed:
            plainest = part.plainest[name]
            message = f"no run shows it, out of all {part.runs}. The plainest run: {plainest.message}"
            found.append((name, attrs.evolve(plainest, message=message, runs=part.runs)))
    discoveries = [
        Discovery(
            name,
            invariants[name].claim,
            best.message,
            runner.schedule_of(best.picks),
            best.rank[1],
            best.runs,
            best.seq,
        )
        for name, best in found
    ]
    observed = sorted(part.observed.items(), key=lambda item: -item[1].runs)
    return Report(
        runner.scenario,
        runner.subject.requirement,
        runner.subject.kind,
        complete,
        part.runs,
        part.reruns + (part.runs > 1),
        len(part.outcomes),
        bound,
        seconds,
        tuple(discoveries),
        tuple(Observation(name, best.runs, runner.schedule_of(best.picks)) for name, best in observed),
        settings,
        runner.subject,
        () if complete else tuple(unwitnessed),
    )
