"""What a search keeps of its runs: counts, and for each broken claim the simplest run that breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sim.check.invariants import PROGRESS, Violation
from sim.search.divergence import disturb, same_judgement, same_questions, same_traces
from sim.search.report import Discovery, Observation, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sim.check.invariants import Invariant
    from sim.search.report import Bound
    from sim.search.runner import Rank, Run, Runner
    from sim.search.shrink import Shrinker

RERUN_EVERY = 50
"""Every so many runs, and at the powers of two below, a schedule is run again to look for nondeterminism."""


class _Found(NamedTuple):
    """The simplest run so far that breaks one claim, and how many do."""

    rank: Rank
    invariant: Invariant
    violation: Violation
    run: Run
    runs: int


class Tally:
    """Takes each run of one search as it comes; memory does not grow with their number.

    Args:
        runner: what runs and judges.
        merging: whether runs of one past are taken for one, so that what the scenario says of it has to be true.
    """

    def __init__(self, runner: Runner, *, merging: bool = False) -> None:
        self._runner = runner
        self._merging = merging
        self.runs = 0
        self.reruns = 0
        self.shrink_runs = 0
        self.outcomes: set[object] = set()
        self.cut: str | None = None
        """How the first run that was cut was: "horizon" or "max-choices"."""
        self.found: dict[str, _Found] = {}
        self._observed: dict[str, tuple[Rank, Run, int]] = {}
        self._unwitnessed = [i for i in runner.scenario.invariants if i.quantifier == "sometimes"]
        self._plainest: dict[str, _Found] = {}
        self._first: Run | None = None

    def add(self, run: Run, *, sampled: bool = True) -> None:
        """Count a run and keep what it shows; if `sampled`, perhaps run it a second time.

        Raises:
            Divergence: it was run a second time, and gave another run.
        """
        self.runs += 1
        if self._first is None:
            self._first = run
        due = self.runs % RERUN_EVERY == 0 or (self.runs < RERUN_EVERY and self.runs & (self.runs - 1) == 0)
        if sampled and due:
            self._rerun(run)
        if run.known:
            if run.violations:
                self._keep(run)
            return
        outcome = run.trace.outcome()
        try:
            self.outcomes.add(outcome)
        except TypeError:  # some event holds a list or a dictionary
            self.outcomes.add(repr(outcome))
        self.cut = self.cut or run.cut
        if run.violations or run.observed is not None or self._unwitnessed:
            self._keep(run)

    def _keep(self, run: Run) -> None:
        rank = run.rank
        for invariant, violation in run.violations:
            best = self.found.get(invariant.name)
            if best is None:
                self.found[invariant.name] = _Found(rank, invariant, violation, run, 1)
            elif rank < best.rank:
                self.found[invariant.name] = _Found(rank, invariant, violation, run, best.runs + 1)
            else:
                self.found[invariant.name] = best._replace(runs=best.runs + 1)
        if run.observed is not None:
            seen = self._observed.get(run.observed)
            if seen is None or rank < seen[0]:
                self._observed[run.observed] = (rank, run, seen[2] + 1 if seen else 1)
            else:
                self._observed[run.observed] = (*seen[:2], seen[2] + 1)
        for invariant in self._unwitnessed[:] if not run.known else ():
            missing = invariant.check(run.trace)
            if missing is None:
                self._unwitnessed.remove(invariant)
            elif invariant.name not in self._plainest:
                self._plainest[invariant.name] = _Found(rank, invariant, missing, run, 0)

    def finish(self) -> None:
        """Run the first schedule once more: what has changed slowly, a cache or a counter, shows by now.

        Raises:
            Divergence: it gave another run.
        """
        if self._first is not None and self.runs > 1:
            self._rerun(self._first)

    def shrink(self, shrinker: Shrinker) -> None:
        """Put in place of each run that was found the simplest that breaks the same."""
        for name, found in sorted(self.found.items(), key=lambda item: item[1].rank):
            run = shrinker.shrink(found.run, name)
            violation = next(violation for invariant, violation in run.violations if invariant.name == name)
            self.found[name] = found._replace(rank=run.rank, violation=violation, run=run)
        self.shrink_runs = shrinker.runs

    def _rerun(self, run: Run) -> None:
        self.reruns += 1
        looked_at = run.known or not self._merging
        held = disturb(self.reruns)
        again = self._runner.run(run.picks, on_end=None if looked_at else self._runner.same_past)
        del held
        same_questions(run.choices, again.choices)
        same_traces(run.trace, again.trace, beginning=run.known)
        if not run.known:
            same_judgement(run, again)

    def report(
        self,
        *,
        complete: bool,
        bound: Bound | None,
        seconds: float,
        settings: dict[str, Any],
        states: int | None = None,
        blind: Mapping[str, int] | None = None,
    ) -> Report:
        """The answer, once there is nothing more to add."""
        runner = self._runner
        named = [i.name for i in (PROGRESS, *runner.scenario.invariants)]
        found = sorted(self.found.values(), key=lambda f: (f.rank, named.index(f.invariant.name)))
        if complete:
            for invariant in self._unwitnessed:
                plainest = self._plainest[invariant.name]
                message = f"no run shows it, out of all {self.runs}. The plainest run: {plainest.violation.message}"
                found.append(plainest._replace(violation=Violation(message, plainest.violation.event), runs=self.runs))
        discoveries = [
            Discovery(
                f.invariant.name,
                f.invariant.claim,
                f.violation.message,
                runner.schedule(f.run),
                len(f.run.trace),
                f.runs,
                f.violation.event.seq if f.violation.event is not None else None,
            )
            for f in found
        ]
        observed = sorted(self._observed.items(), key=lambda item: -item[1][2])
        return Report(
            runner.scenario,
            runner.subject.requirement,
            runner.subject.kind,
            complete,
            self.runs,
            self.reruns,
            len(self.outcomes),
            bound,
            seconds,
            tuple(discoveries),
            tuple(Observation(name, count, runner.schedule(run)) for name, (_, run, count) in observed),
            settings,
            runner.subject,
            () if complete else tuple(invariant.name for invariant in self._unwitnessed),
            shrink_runs=self.shrink_runs,
            faults=runner.settings.faults.budget(),
            states=states,
            blind=dict(blind or {}),
        )
