"""The reduction "states": a run ends where it comes to a state that was seen.

Theory of operation
===================

At each point where the world decides what happens next, behind the forced picks of the run, the live world gets a
fingerprint (`sim.world.fingerprint`). If it is new it is remembered and the run goes on. If it was seen, the run ends:
the orders behind it were tried, or will be, from the first visit, because the policy raises each pick of that run that
can be raised. So a search over the tree of schedules becomes one over the graph of states.

Rules for this file:

1. What is preserved, if the fingerprints are right: every state that can be reached, the set of outcomes (unless the
   scenario's past is types of events: then only what these show of it), and for each claim whether some run breaks it. What is not: how many orders come to what, and which order is the simplest.
2. A run that ends at a known state is no whole run. `always` is judged on it; `eventually`, `sometimes`, the outcome and
   the scenario's name for it are those of the runs that go on from the first visit.
3. States are equal only if their pasts are, as far as the scenario's claims look (`Scenario.past`; see
   `sim.world.fingerprint.past`). Whether a scenario says the truth there is looked at: each whole run that is sampled
   is also judged with its events in another order, one that has the same past. Another verdict is an error.
4. A run that comes round to one of its own states *without having had a choice* goes on for ever. It is not ended, and
   so gets stuck, or meets the horizon, as without this reduction. With a choice in between there is a way out, which
   is tried.
5. A state that is reached later in virtual time is the same state. The horizon is a bound on runs and no part of a
   world's future; a run that meets it makes the search inconclusive as ever.
6. The order of timers that are due at one moment is left out of fingerprints until some run has come to such a moment.
   Then everything is forgotten and the search begins again, with that order in them.
7. Between two iterations of a loop (granularity `iteration`) no state is looked up.

A fingerprint has 128 bits: among a thousand million states the chance that two share one is below 1 in 10**20.
"""

from __future__ import annotations

import base64
from array import array
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint import Fingerprinter, Knowledge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.check.subject import Subject
    from sim.search.frontier import Outlook
    from sim.search.policy import Play, Policy
    from sim.search.runner import Run
    from sim.world.fingerprint.past import Kind
    from sim.world.world import World

SMALLEST = 64
FULLEST = 0.75
"""How full the table may be."""
GROWTH = 1.5


class Visited:
    """A set of 128-bit keys in two machine words each, in one flat table with open addressing.

    A `set` of bytes costs over 80 bytes a key. This costs 21 to 32, and 54 for the moment in which it grows.
    """

    __slots__ = ("_capacity", "_words", "count")

    def __init__(self) -> None:
        self.count = 0
        self._capacity = SMALLEST
        self._words = array("Q", bytes(16 * SMALLEST))

    def __len__(self) -> int:
        return self.count

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self._words.itemsize * len(self._words)

    def __contains__(self, key: bytes) -> bool:
        high, low = _words(key)
        return self._words[2 * _place(self._words, self._capacity, high, low)] != 0

    def add(self, key: bytes) -> bool:
        """Add sixteen bytes. Returns whether they are new."""
        high, low = _words(key)
        place = 2 * _place(self._words, self._capacity, high, low)
        if self._words[place]:
            return False
        self._words[place], self._words[place + 1] = high, low
        self.count += 1
        if self.count > self._capacity * FULLEST:
            self._grow()
        return True

    def to_json(self) -> list[Any]:
        """The set as JSON types: the keys' number, and the table with its places."""
        return [self.count, self._capacity, base64.b64encode(self._words.tobytes()).decode()]

    @classmethod
    def from_json(cls, record: Any) -> Visited:
        """The set that `to_json` made a record of."""
        visited = cls()
        visited.count, visited._capacity, words = record
        visited._words = array("Q", base64.b64decode(words))
        return visited

    def _grow(self) -> None:
        old, capacity = self._words, int(self._capacity * GROWTH)
        words = array("Q", [0]) * (2 * capacity)
        for at in range(0, len(old), 2):
            if old[at]:
                place = 2 * _place(words, capacity, old[at], old[at + 1])
                words[place], words[place + 1] = old[at], old[at + 1]
        self._words, self._capacity = words, capacity


def _words(key: bytes) -> tuple[int, int]:
    """A key as two words, of which the first is not 0: that marks a free place."""
    high, low = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    return high or 1, low


def _place(words: array[int], capacity: int, high: int, low: int) -> int:
    """Where a key is, or would go."""
    place = low % capacity
    while words[2 * place] and (words[2 * place] != high or words[2 * place + 1] != low):
        place = place + 1 if place + 1 < capacity else 0
    return place


class States:
    """The states that one search has seen.

    Args:
        past: how much of the past belongs to a state (`Scenario.past`).
        knowledge: what the subject says of its code.
        symmetry: whether scripts that were started as `alike` are taken for one another.
    """

    def __init__(self, *, past: Kind, knowledge: Knowledge | None = None, symmetry: bool = False) -> None:
        self.visited = Visited()
        self.tied = False
        """Whether timers fired in some run that were due at one moment."""
        self.fingerprinter = Fingerprinter(past=past, knowledge=knowledge, symmetry=symmetry)

    def __len__(self) -> int:
        return len(self.visited)

    @property
    def blind(self) -> dict[str, int]:
        """Types that could not be seen into, and how many states are therefore like no other."""
        return dict(self.fingerprinter.blind)

    @property
    def one_by_one(self) -> bool:
        """Whether one connection is explored after the other (`sim.search.apart`)."""
        return False

    @property
    def due(self) -> bool:
        """Whether the search has to begin again (rule 6)."""
        return self.tied and not self.fingerprinter.ordered

    def begin_again(self) -> None:
        """Forget everything; if that is why, tell states apart by the order of timers due at one moment from now on."""
        self.visited = Visited()
        self.fingerprinter.blind.clear()
        self.fingerprinter.ordered = self.tied

    def state(self) -> Any:
        """What it knows, in JSON types."""
        return [self.tied, self.fingerprinter.ordered, self.blind, self.visited.to_json()]

    def resume(self, state: Any) -> None:
        """Know what another one did."""
        self.tied, self.fingerprinter.ordered, blind, visited = state
        self.fingerprinter.blind.update(blind)
        self.visited = Visited.from_json(visited)

    def wrap(self, make: Callable[[], Policy]) -> Policy:
        """A policy that begins again where rule 6 asks for it."""
        return _Again(self, make)

    def lookout(self, forced: Sequence[int]) -> Callable[[World], bool]:
        """What one run asks, where the next thing is decided, whether it may end."""
        own: set[bytes] = set()
        self.fingerprinter.forget()
        choices = -1

        def known(world: World) -> bool:
            nonlocal choices
            self.tied = self.tied or world.tied
            made = len(world.choices.made)
            if made < len(forced):
                return False
            if made != choices:
                choices = made
                own.clear()
            key = self.fingerprinter.of(world)
            if self.visited.add(key):
                own.add(key)
                return False
            return key not in own

        return known


class _Again:
    """A policy that is begun again when its states ask for it."""

    def __init__(self, states: States, make: Callable[[], Policy]) -> None:
        self._states = states
        self._make = make
        self._policy = make()

    @property
    def complete(self) -> bool:
        return self._policy.complete and not self._states.due

    @property
    def abandoned(self) -> int:
        """How many runs the policy broke off as repeating another one, if it does so."""
        return getattr(self._policy, "abandoned", 0)

    def outlook(self) -> Outlook | None:
        """The policy's, without a guess: what is below a schedule may be known."""
        outlook = self._policy.outlook()
        return outlook._replace(share=None) if outlook is not None else None

    def runs(self, play: Play) -> Iterator[Run]:
        while not self.complete:
            if self._states.due:
                self._states.begin_again()
                self._policy = self._make()
            for run in self._policy.runs(play):
                yield run
                if self._states.due:
                    break

    def state(self) -> Any:
        """See `Policy`."""
        return [self._states.state(), self._policy.state()]

    def resume(self, state: Any) -> None:
        """See `Policy`."""
        states, policy = state
        self._states.resume(states)
        self._policy.resume(policy)


def knowledge_of(subject: Subject) -> Knowledge:
    """What a subject says of its code, in its attribute `knowledge`; nothing if it has none."""
    found = getattr(subject, "knowledge", None)
    return found if isinstance(found, Knowledge) else Knowledge()
