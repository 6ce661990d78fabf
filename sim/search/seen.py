"""Which schedules were run: so that a sampler runs none twice, and knows when it has run them all.

Theory of operation
===================

The schedules of a scenario are the leaves of a tree. `Seen` holds the part of it that was visited. A subtree all of
whose leaves were run is *done*, and collapses into that one word; when the root is done, every schedule was run, and
the search is complete, however it has drawn them.

A draw that would lead into a done subtree is *bent*: it takes the next branch that is not done. Every schedule that
was not run yet keeps at least the probability that the sampler gives it, because no draw that leads to it is bent. So
whatever a paper promises about the next run holds, and the runs that would repeat others go to new schedules instead.

Rules for this file:

1. A part of the tree that one run alone has visited is one object, and unfolds only where another run branches off.
2. The width of each choice that was asked before must be what it was; a different one is a `Divergence`.
3. Behind `MOST` runs nothing more is noted. What is known stays true; but a run may then repeat another one, and the
   search cannot become complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sim.search.divergence import unlike

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.world.choices import Choice, Decide

MOST = 1_000_000
"""Runs that are noted, at some 300 bytes each."""


class _Done:
    """A subtree whose every leaf was run."""


class _Tail(NamedTuple):
    """What one run alone has visited: its choices from some point to its end, at least one."""

    widths: Sequence[int]
    picks: Sequence[int]

    def unfold(self) -> list[Any]:
        """The same with its first choice as a node of its own."""
        node: list[Any] = [None] * self.widths[0]
        rest = _Tail(self.widths[1:], self.picks[1:])
        node[self.picks[0]] = rest if rest.picks else DONE
        return node


DONE = _Done()


class Seen:
    """The schedules that were run. A node is a list of what is behind each pick; None is what nobody has visited."""

    def __init__(self) -> None:
        self._box: list[Any] = [None]
        self._noted = 0

    def to_json(self) -> list[Any]:
        """The tree as JSON types: its nodes, each in front of those behind its picks."""
        flat: list[Any] = [self._noted]
        rest = [self._box[0]]
        while rest:
            node = rest.pop()
            if node is None or node is DONE:
                flat.append(node is DONE)
            elif type(node) is _Tail:
                flat.append([list(node.widths), list(node.picks)])
            else:
                flat.append(len(node))
                rest += reversed(node)
        return flat

    @classmethod
    def from_json(cls, flat: list[Any]) -> Seen:
        """The schedules that `to_json` made a record of."""
        seen = cls()
        seen._noted = flat[0]
        free: list[tuple[list[Any], int]] = [(seen._box, 0)]
        for record in flat[1:]:
            box, index = free.pop()
            if isinstance(record, bool):
                box[index] = DONE if record else None
            elif isinstance(record, list):
                box[index] = _Tail(*map(_packed, record))
            else:
                box[index] = [None] * record
                free += [(box[index], number) for number in reversed(range(record))]
        return seen

    @property
    def all(self) -> bool:
        """Whether every schedule there is was run."""
        return self._box[0] is DONE

    def bend(self, decide: Decide) -> Decide:
        """For one run: `decide`, kept out of what is done."""
        node: Any = self._box[0]
        at = 0

        def bent(width: int, label: object) -> int:
            nonlocal node, at
            pick = decide(width, label)
            if type(node) is _Tail:
                _same_width(node.widths[at], width, label)
                if pick != node.picks[at]:
                    node = None
                elif at + 1 == len(node.picks):
                    pick, node = (pick + 1) % width, None
                else:
                    at += 1
            elif node is not None:
                _same_width(len(node), width, label)
                while node[pick] is DONE:
                    pick = (pick + 1) % width
                node, at = node[pick], 0
            return pick

        return bent

    def add(self, made: Sequence[Choice]) -> bool:
        """Note a run. Returns whether it is known to be a new one."""
        if self._noted >= MOST:
            return False
        above: list[tuple[list[Any], int]] = []
        box, index = self._box, 0
        for position, choice in enumerate(made):
            node = box[index]
            if node is DONE:
                return False
            if node is None:
                box[index] = _Tail(*(_packed(part) for part in _columns(made[position:])))
                self._noted += 1
                return True
            if type(node) is _Tail:
                if tuple(node.picks) == tuple(c.pick for c in made[position:]):
                    return False
                node = box[index] = node.unfold()
            _same_width(len(node), choice.width, choice.label)
            above.append((box, index))
            box, index = node, choice.pick
        if box[index] is DONE:
            return False
        if box[index] is not None:
            raise unlike(f"After {len(made)} choices the run went on; now it ends there.")
        self._noted += 1
        box[index] = DONE
        while above and all(branch is DONE for branch in box):
            box, index = above.pop()
            box[index] = DONE
        return True


def _columns(made: Sequence[Choice]) -> tuple[list[int], list[int]]:
    return [choice.width for choice in made], [choice.pick for choice in made]


def _packed(numbers: list[int]) -> Sequence[int]:
    """Small numbers in little space."""
    return bytes(numbers) if max(numbers) < 256 else tuple(numbers)


def _same_width(before: int, now: int, label: object) -> None:
    if before != now:
        raise unlike(f"A choice had {before} possibilities; now there are {now} ({label}).")
