"""What is known of a part of a search: counts, and for each name the simplest run that shows it.

Rules for this file:

1. A part is plain data: it pickles, it is JSON, and it holds no run. Its size does not grow with the number of runs,
   except for one digest for each distinct outcome.
2. A merged part is what one search of it all would have found, to the last byte, however it was cut into parts and in
   whatever order they are merged: no two runs are equally simple, and nothing depends on which came first.
3. Digests are the same in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import attrs

from sim.world.trace import without_addresses

if TYPE_CHECKING:
    from sim.check.invariants import Violation
    from sim.search.runner import Rank, Run

DIGEST_BYTES = 16


@attrs.frozen
class Best:
    """The simplest run that shows something, and how many do.

    Attributes:
        rank: how simple it is; see `sim.search.runner.Run.rank`.
        digest: of its trace; see `sim.search.runner.Run.digest`.
        message: what was said of it.
        seq: the number of the event at which it shows, or None.
        runs: how many show it.
    """

    rank: Rank
    digest: int | None
    message: str = ""
    seq: int | None = None
    runs: int = 1

    @classmethod
    def of(cls, run: Run, violation: Violation | None = None, runs: int = 1) -> Best:
        """A run, and what it breaks or does not show."""
        if violation is None:
            return cls(run.rank, run.digest, runs=runs)
        seq = violation.event.seq if violation.event is not None else None
        return cls(run.rank, run.digest, violation.message, seq, runs)

    @property
    def events(self) -> int:
        """Of the run."""
        return self.rank[1]

    @property
    def picks(self) -> tuple[int, ...]:
        """Of the run."""
        return self.rank[3]

    def merged(self, other: Best) -> Best:
        """The simpler of two, and how many both stand for."""
        return attrs.evolve(min(self, other, key=_simplicity), runs=self.runs + other.runs)

    def to_json(self) -> list[Any]:
        """It as JSON types."""
        return [list(self.rank), self.digest, self.message, self.seq, self.runs]

    @classmethod
    def from_json(cls, record: Any) -> Best:
        """What `to_json` made a record of."""
        (deviations, events, choices, picks), digest, message, seq, runs = record
        return cls((deviations, events, choices, tuple(picks)), digest, message, seq, runs)


def _simplicity(best: Best) -> Rank:
    return best.rank


@attrs.define
class Part:
    """What is known of the runs of one part of a search.

    Attributes:
        runs: how many there were.
        reruns: how many of them were a sample, and were run a second time.
        cut: in which ways some were cut: "horizon" or "max-choices".
        outcomes: the digests of the distinct outcomes.
        found: for each broken invariant, by name.
        observed: for each of the scenario's names for what runs show.
        witnessed: each `sometimes` that some run shows.
        plainest: for each other `sometimes`, the simplest of the runs, which do not show it.
        struck: in how many runs each fault struck.
    """

    runs: int = 0
    reruns: int = 0
    cut: set[str] = attrs.field(factory=set)
    outcomes: set[bytes] = attrs.field(factory=set)
    found: dict[str, Best] = attrs.field(factory=dict)
    observed: dict[str, Best] = attrs.field(factory=dict)
    witnessed: set[str] = attrs.field(factory=set)
    plainest: dict[str, Best] = attrs.field(factory=dict)
    struck: dict[str, int] = attrs.field(factory=dict)

    def merge(self, other: Part) -> None:
        """Take in a part of the same search."""
        self.runs += other.runs
        self.reruns += other.reruns
        self.cut |= other.cut
        self.outcomes |= other.outcomes
        self.witnessed |= other.witnessed
        for fault, runs in other.struck.items():
            self.struck[fault] = self.struck.get(fault, 0) + runs
        for ours, theirs in (
            (self.found, other.found),
            (self.observed, other.observed),
            (self.plainest, other.plainest),
        ):
            for name, best in theirs.items():
                ours[name] = best.merged(ours[name]) if name in ours else best
        for name in self.witnessed & self.plainest.keys():
            del self.plainest[name]

    def to_json(self) -> dict[str, Any]:
        """The part as JSON types."""
        return {
            "runs": self.runs,
            "reruns": self.reruns,
            "cut": sorted(self.cut),
            "outcomes": sorted(digest.hex() for digest in self.outcomes),
            "found": _records(self.found),
            "observed": _records(self.observed),
            "witnessed": sorted(self.witnessed),
            "plainest": _records(self.plainest),
            "struck": dict(sorted(self.struck.items())),
        }

    @classmethod
    def from_json(cls, record: Any) -> Part:
        """The part that `to_json` made a record of."""
        return cls(
            record["runs"],
            record["reruns"],
            set(record["cut"]),
            {bytes.fromhex(digest) for digest in record["outcomes"]},
            _bests(record["found"]),
            _bests(record["observed"]),
            set(record["witnessed"]),
            _bests(record["plainest"]),
            dict(record["struck"]),
        )


def count(where: dict[str, Best], name: str, run: Run, violation: Violation | None = None) -> None:
    """Count a run that shows something."""
    before = where.get(name)
    if before is None:
        where[name] = Best.of(run, violation)
    elif run.rank < before.rank:
        where[name] = Best.of(run, violation, before.runs + 1)
    else:
        where[name] = attrs.evolve(before, runs=before.runs + 1)


def _records(bests: Mapping[str, Best]) -> dict[str, list[Any]]:
    return {name: best.to_json() for name, best in sorted(bests.items())}


def _bests(records: Mapping[str, Any]) -> dict[str, Best]:
    return {name: Best.from_json(record) for name, record in records.items()}


def digest(outcome: object) -> bytes:
    """A few bytes that stand for an outcome: the same for equal ones, in every process."""
    return blake2b(_spelled(outcome).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _spelled(value: object) -> str:
    """A value in a form that depends neither on hash seeds nor on addresses."""
    parts: list[str] = []
    _spell(value, parts)
    return "".join(parts)


def _spell(value: object, parts: list[str]) -> None:
    kind = type(value)
    if kind in _ATOMS:
        parts.append(repr(value))
    elif kind is str or kind is bytes:
        text = repr(value)
        parts.append(without_addresses(text) if " at 0x" in text else text)
    elif isinstance(value, (tuple, list)):
        parts.append("(")
        for item in value:
            _spell(item, parts)
            parts.append(",")
        parts.append(")")
    elif isinstance(value, (set, frozenset)):
        parts += "{", *sorted(map(_spelled, value)), "}"
    elif isinstance(value, Mapping):
        parts += "{", *sorted(f"({_spelled(key)},{_spelled(item)},)" for key, item in value.items()), "}"
    else:
        parts.append(without_addresses(repr(value)))


_ATOMS = frozenset({int, float, bool, type(None)})
"""Types whose `repr` never holds an address."""
