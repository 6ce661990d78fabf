"""What can be under way in a world: segments in channels, and native threads' results in mailboxes.

Both are *lanes*: first in, first out, and what is at the head of one may happen in any order against the heads of the
others. `Menu` is how a choice among them reads.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sim.world.endpoint import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.world.endpoint import Segment


class Post:
    """A native thread's result on its way to an event loop."""

    __slots__ = ("callback", "earliest", "label", "latest", "order", "sent_by", "way")

    def __init__(self, callback: Callable[[], None], label: str, owner: str) -> None:
        self.callback = callback
        self.label = label
        self.way = "", owner, ""
        self.order = 0
        self.earliest = 0.0
        self.latest = 0.0
        self.sent_by: int | None = None

    def __str__(self) -> str:
        return self.label


class Mailbox:
    """What native threads have for one event loop, first in first out."""

    __slots__ = ("owner", "segments")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.segments: deque[Post] = deque()


Lane: TypeAlias = "Channel | Mailbox"
Item: TypeAlias = "Segment | Post"


class Alarm:
    """A script's timer."""

    __slots__ = ("callback", "cause")

    def __init__(self, callback: Callable[[], None], cause: int | None) -> None:
        self.callback: Callable[[], None] | None = callback
        self.cause = cause

    def cancel(self) -> None:
        """Have it never go off. A second time does no harm."""
        self.callback = None


class Option(NamedTuple):
    """One thing to pick, for policies that look at what there is. Names are the same in each run of a scenario.

    Attributes:
        lane: which lane it is the head of; "" for a timer, and for "nothing yet".
        item: its number among all that was ever under way in this run; 0 for those.
        target: who gets it; "" for those.
        late: whether it is meant to arrive at the next timer's own moment.
    """

    lane: str
    item: int
    target: str
    late: bool = False


class Menu:
    """What there was to pick from; text is made only when somebody reads it."""

    __slots__ = ("_early", "_first", "_late", "_strikes", "_timer")

    def __init__(
        self,
        first: str | None,
        early: Sequence[Lane],
        late: Sequence[Lane] = (),
        timer: bool = False,
        strikes: Sequence[object] = (),
    ) -> None:
        self._first = first
        self._early = [lane.segments[0] for lane in early]
        self._late = [lane.segments[0] for lane in late]
        self._timer = timer
        self._strikes = strikes

    def options(self) -> list[Option]:
        """What each pick stands for, in order."""
        options = [Option("", 0, "")] if self._first else []
        for items, late in (self._early, False), (self._late, True):
            for item in items:
                source, target, connection = item.way
                options.append(Option(f"{_route(source, target)} {connection}", item.order, target, late))
        options += [Option("", 0, "")] if self._timer else []
        return options + [Option("", 0, "") for _ in self._strikes]

    def __str__(self) -> str:
        options = [self._first] if self._first else []
        options += [f"{_route(*item.way[:2])} {item}" for item in self._early]
        options += [f"{_route(*item.way[:2])} {item} just before the timer" for item in self._late]
        options += ["a timer fires first"] if self._timer else []
        return " | ".join(options + [str(strike) for strike in self._strikes])


def order(lane: Lane) -> int:
    """When the head of a lane entered it, for sorting."""
    return lane.segments[0].order


def route(lane: Lane) -> str:
    """From whom to whom a lane leads, for people."""
    if isinstance(lane, Mailbox):
        return _route("", lane.owner)
    return _route(lane.source.place, lane.target.place)


def _route(source: str, target: str) -> str:
    return f"{source} → {target}:" if source else f"{target} ⇢ event loop:"
