"""Pieces of a search that can be explored apart from each other, and the line in which they wait.

A *piece* stands for schedules that were not run. Exploring some of them leaves pieces again. A policy that can be
taken to pieces has a kind of its own (`Prefix`, `Family`), in whose order it would run them itself.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Key: TypeAlias = "tuple[int, ...]"
"""Where a piece stands in the order of its search. No key is the beginning of another."""


class Piece(Protocol):
    """Schedules that were not run."""

    @property
    def key(self) -> Key:
        """Where it stands."""
        ...

    @property
    def level(self) -> int:
        """What is explored behind everything of a lower level. What an explored piece leaves may be of a higher one."""
        ...

    @property
    def schedules(self) -> int:
        """How many it is known to stand for. There may be more, which come to light when those are run."""
        ...

    @property
    def share(self) -> float:
        """The part of all orders that it stands for, if each pick of a choice led to as many."""
        ...

    def to_json(self) -> list[Any]:
        """It as JSON types."""
        ...


class Outlook(NamedTuple):
    """What a search has before it.

    Attributes:
        schedules: how many are known that were not run; None: nobody knows.
        share: the part of all orders that they and all behind them come to, at a guess; None: nobody can know.
    """

    schedules: int | None
    share: float | None


class Frontier:
    """Pieces that wait, in order."""

    def __init__(self, pieces: Iterable[Piece] = ()) -> None:
        self._waiting: list[Piece] = []
        self._share = 0.0
        self.schedules = 0
        """How many schedules they are known to stand for."""
        self.add(pieces)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> Piece | None:
        """The first piece, if there is one."""
        return self._waiting[-1] if self._waiting else None

    @property
    def share(self) -> float:
        """The part of all orders that they stand for, as far as one can know; see `Piece.share`."""
        return min(max(self._share, 0.0), 1.0) if self._waiting else 0.0

    def add(self, pieces: Iterable[Piece]) -> None:
        """Put pieces in their places."""
        for piece in pieces:
            insort(self._waiting, piece, key=_backwards)
            self._count(piece, 1)

    def take(self, schedules: float, *, at_most: int, before: Key | None = None) -> tuple[Piece, ...]:
        """Take the first ones out, all of one level.

        Args:
            schedules: until they stand for about so many.
            at_most: so many pieces (≥ 1).
            before: none that stands behind this; None: any.
        """
        taken: list[Piece] = []
        known = 0
        while self._waiting and len(taken) < at_most and known < schedules:
            piece = self._waiting[-1]
            if (before is not None and piece.key >= before) or (taken and piece.level != taken[0].level):
                break
            taken.append(self._waiting.pop())
            known += piece.schedules
            self._count(piece, -1)
        return tuple(taken)

    def remove(self, piece: Piece) -> None:
        """Take one out.

        Raises:
            ValueError: it is not there.
        """
        place = bisect_left(self._waiting, _backwards(piece), key=_backwards)
        if place == len(self._waiting) or self._waiting[place] != piece:
            raise ValueError(piece)
        del self._waiting[place]
        self._count(piece, -1)

    def drop(self, behind: Key) -> list[Piece]:
        """Take out what does not stand before this."""
        place = bisect_left(self._waiting, True, key=lambda piece: piece.key < behind)
        dropped = self._waiting[:place]
        for piece in dropped:
            self._count(piece, -1)
        del self._waiting[:place]
        return dropped

    def _count(self, piece: Piece, sign: int) -> None:
        self._share += sign * piece.share
        self.schedules += sign * piece.schedules


def _backwards(piece: Piece) -> Key:
    """A key for a list in which the first piece stands last: as no key is the beginning of another, signs can be turned."""
    return tuple(-number for number in piece.key)
