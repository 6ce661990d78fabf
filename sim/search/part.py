"""What is known of a part of a search: counts, and for each name the simplest run that shows it.

Rules for this file:

1. A part is plain data: it pickles, it is JSON, and it holds no run. Its size does not grow with the number of runs,
   except for one digest for each distinct outcome.
2. Parts are merged in the order of their schedules. Then the merged part is what one search of it all would have
   found, to the last byte, however it was cut into parts.
3. Digests are the same in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import attrs

from sim.world.trace import without_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.search.runner import Run

DIGEST_BYTES = 16


@attrs.frozen
class Best:
    """The simplest run that shows something, and how many do.

    Attributes:
        rank: deviations, events and choices of the run: fewer is simpler; the first of equals is kept.
        picks: its schedule.
        message: what was said of it.
        seq: the number of the event at which it shows, or None.
        runs: how many show it.
    """

    rank: tuple[int, int, int]
    picks: tuple[int, ...]
    message: str = ""
    seq: int | None = None
    runs: int = 1

    def merged(self, other: Best) -> Best:
        """The simpler of two, of which this comes first, and how many both stand for."""
        return attrs.evolve(min((self, other), key=_simplicity), runs=self.runs + other.runs)

    def to_json(self) -> list[Any]:
        """It as JSON types."""
        return [list(self.rank), list(self.picks), self.message, self.seq, self.runs]

    @classmethod
    def from_json(cls, record: Any) -> Best:
        """What `to_json` made a record of."""
        rank, picks, message, seq, runs = record
        return cls(tuple(rank), tuple(picks), message, seq, runs)


def _simplicity(best: Best) -> tuple[int, int, int]:
    return best.rank


def rank_of(run: Run) -> tuple[int, int, int]:
    """How simple a run is; see `Best`."""
    return (run.deviations, len(run.trace), len(run.choices))


@attrs.define
class Part:
    """What is known of the runs of one part of a search.

    Attributes:
        runs: how many there were.
        reruns: how many of them were a sample, and were run a second time.
        cut: how the first that was cut was: "horizon" or "max-choices"; None: none was.
        outcomes: the digests of the distinct outcomes.
        found: for each broken invariant, by name.
        observed: for each of the scenario's names for what runs show.
        witnessed: each `sometimes` that some run shows.
        plainest: for each `sometimes`, the simplest of the runs before that which do not show it.
    """

    runs: int = 0
    reruns: int = 0
    cut: str | None = None
    outcomes: set[bytes] = attrs.field(factory=set)
    found: dict[str, Best] = attrs.field(factory=dict)
    observed: dict[str, Best] = attrs.field(factory=dict)
    witnessed: set[str] = attrs.field(factory=set)
    plainest: dict[str, Best] = attrs.field(factory=dict)

    def merge(self, other: Part) -> None:
        """Take in a part whose schedules come behind this one's."""
        self.runs += other.runs
        self.reruns += other.reruns
        self.cut = self.cut or other.cut
        self.outcomes |= other.outcomes
        for ours, theirs in (self.found, other.found), (self.observed, other.observed):
            for name, best in theirs.items():
                keep(ours, name, best)
        for name, best in other.plainest.items():
            if name not in self.witnessed:
                self.plainest[name] = min(self.plainest.get(name, best), best, key=_simplicity)
        self.witnessed |= other.witnessed

    def to_json(self) -> dict[str, Any]:
        """The part as JSON types."""
        return {
            "runs": self.runs,
            "reruns": self.reruns,
            "cut": self.cut,
            "outcomes": sorted(digest.hex() for digest in self.outcomes),
            "found": _records(self.found),
            "observed": _records(self.observed),
            "witnessed": sorted(self.witnessed),
            "plainest": _records(self.plainest),
        }

    @classmethod
    def from_json(cls, record: Any) -> Part:
        """The part that `to_json` made a record of."""
        return cls(
            record["runs"],
            record["reruns"],
            record["cut"],
            {bytes.fromhex(digest) for digest in record["outcomes"]},
            _bests(record["found"]),
            _bests(record["observed"]),
            set(record["witnessed"]),
            _bests(record["plainest"]),
        )


def keep(where: dict[str, Best], name: str, best: Best) -> None:
    """Count one more, which comes behind those that were kept."""
    before = where.get(name)
    where[name] = best if before is None else before.merged(best)


def _records(bests: Mapping[str, Best]) -> list[list[Any]]:
    """In a list, because their order matters."""
    return [[name, best.to_json()] for name, best in bests.items()]


def _bests(records: Iterable[Any]) -> dict[str, Best]:
    return {name: Best.from_json(record) for name, record in records}


def digest(outcome: object) -> bytes:
    """A few bytes that stand for an outcome: the same for equal ones, in every process."""
    return blake2b("".join(_spelled(outcome)).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _spelled(value: object) -> Iterable[str]:
    """A value in a form that depends neither on hash seeds nor on addresses."""
    if isinstance(value, (tuple, list)):
        yield "("
        for item in value:
            yield from _spelled(item)
            yield ","
        yield ")"
    elif isinstance(value, (set, frozenset)):
        yield "{"
        yield from sorted("".join(_spelled(item)) for item in value)
        yield "}"
    elif isinstance(value, Mapping):
        yield from _spelled({(key, _Spelled("".join(_spelled(item)))) for key, item in value.items()})
    else:
        yield without_addresses(repr(value))


class _Spelled(str):
    """Text that is spelled already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
