"""A search that is done in one go, and the snapshots of it that are kept (`sim.search.checkpoint` puts them on disk).

Rules for this file:

1. A snapshot is all that the search has to know to go on: what was found, the state of its policy, and witnesses. It is
   JSON types.
2. Snapshots cost a twentieth of the time at the most, with the runs that become witnesses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sim.search.part import Part
from sim.search.witness import Witness, Witnesses, discoveries

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.search.isolation import IsolationCheck
    from sim.search.policy import Policy
    from sim.search.runner import Run
    from sim.search.states import States
    from sim.search.witness import Court

SNAPSHOT_EVERY = 1.0
"""Real seconds between two snapshots, at the least."""
SNAPSHOT_SHARE = 0.05
"""The part of the time that goes into them, at the most."""


class Kept:
    """Keeps a search that is done in one go.

    Args:
        snapshot: what was kept of it before, or None.
        keep: called with each snapshot.
        file: the checkpoint's name.
    """

    def __init__(self, snapshot: Any, keep: Callable[[dict[str, Any]], object], file: str) -> None:
        self.snapshot = snapshot
        self.keep = keep
        self.file = file
        self._court: Court | None = None
        self._states: States | None = None
        self._witnesses = Witnesses()
        self._called: list[tuple[int, ...]] = []
        """Schedules of runs that are to be witnesses when next something is kept."""
        self._due = time.perf_counter() + SNAPSHOT_EVERY

    @property
    def runs(self) -> int:
        """How many runs the search had made."""
        return int(self.snapshot["part"]["runs"]) if self.snapshot is not None else 0

    def resume(self, policy: Policy, isolation: IsolationCheck | None) -> tuple[Part, float]:
        """Bring a search to where its snapshot says that it was. Returns what was found, and in how many real seconds."""
        state = self.snapshot
        if state is None:
            return Part(), 0.0
        policy.resume(state["policy"])
        if isolation is not None:
            isolation.resume(state["isolation"])
        return Part.from_json(state["part"]), float(state["seconds"])

    def begin(self, court: Court, states: States | None, part: Part) -> None:
        """Before the first run: see whether what the snapshot knows is true here, too.

        Args:
            court: of the search.
            states: those that it sees, if it tells them apart.
            part: what `resume` said was found.

        Raises:
            Divergence: a run that it holds comes otherwise: it depends on the seed of Python's hashes.
            UsageError: a run that it holds comes otherwise: something was changed.
        """
        self._court, self._states = court, states
        if self.snapshot is not None:
            self._witnesses = Witnesses(map(Witness.from_json, self.snapshot["witnesses"]))
            with court.session():
                error = court.hear((*self._witnesses, *discoveries(part)), self.file)
            if error is not None:
                raise error

    def note(self, run: Run, number: int) -> None:
        """A run was made, the n-th."""
        if number & (number - 1) == 0:
            self._called.append(run.picks)

    def _witness(self) -> list[Any]:
        """All witnesses that there are by now, in JSON types."""
        ordered = self._states is not None and self._states.fingerprinter.ordered
        for picks in self._called:
            assert self._court is not None
            self._witnesses.add(self._court.witness(picks, ordered=ordered))
        self._called.clear()
        return [witness.to_json() for witness in self._witnesses]

    def save(
        self, part: Part, policy: Policy, isolation: IsolationCheck | None, seconds: float, *, now: bool = False
    ) -> None:
        """Between two runs: write a snapshot if it is time for one, or `now`."""
        began = time.perf_counter()
        if not now and began < self._due:
            return
        where = policy.state()
        if where is None:
            return
        state = {
            "seconds": round(seconds, 3),
            "part": part.to_json(),
            "policy": where,
            "isolation": isolation.state() if isolation is not None else None,
            "witnesses": self._witness(),
        }
        self.keep(state)
        ended = time.perf_counter()
        self._due = ended + max(SNAPSHOT_EVERY, (ended - began) / SNAPSHOT_SHARE)
