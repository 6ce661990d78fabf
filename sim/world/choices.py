"""The one list of choices from which a world is reproduced.

Theory of operation
===================

A world is deterministic but for one thing: now and then it asks *which of these n?* and `Choices.choose`
answers. What it answered, in order, is the **schedule**. Nothing else is kept to reproduce a run.

Rules for this file:

1. Whatever can differ between two runs of one scenario goes through `choose`. There is no second source.
2. Pick 0 is the boring one: first in, first out; no fault. An empty schedule is therefore a whole run.
3. A question with one answer is not a choice and leaves no record, so a schedule holds decisions only.
4. A prefix of picks is *forced*; behind it the policy decides. A forced pick that the world does not offer
   is a `Divergence`: the world asked another question than it did when the schedule was recorded.

What is kept of each choice is its width and the pick, and its label as it was given, unformatted, because a
search asks thousands of times for each time that somebody reads the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from sim.errors import Divergence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Decide: TypeAlias = "Callable[[int, object], int]"
"""How a policy answers: called with the width of a choice and its label, it returns a pick in `range(width)`."""


@attrs.define(slots=True)
class Choice:
    """One decision of a run: how many there were to pick from, which was picked, and what it was about."""

    width: int
    pick: int
    label: object


class Choices:
    """Answers each question of one run: first from `forced`, then from `policy` (default: always 0).

    Args:
        forced: the picks to repeat, from the first.
        policy: called with the width (≥ 2) of a choice behind the forced ones; returns a pick in `range(width)`.
        decide: the same for a policy that looks at what there is to pick from: called with width and label.
        limit: how many choices a run may make; behind it every pick is 0 and `truncated` says so. None: no limit.
    """

    __slots__ = ("_decide", "_forced", "_limit", "made", "truncated")

    def __init__(
        self,
        forced: Sequence[int] = (),
        policy: Callable[[int], int] | None = None,
        *,
        decide: Decide | None = None,
        limit: int | None = None,
    ) -> None:
        self._forced = forced
        self._decide = decide if policy is None else lambda width, _label: policy(width)
        self._limit = limit
        self.made: list[Choice] = []
        self.truncated = False

    def choose(self, width: int, label: object = "") -> int:
        """Pick one of `width` (≥ 1) possibilities; 0 is the boring one.

        Raises:
            Divergence: a forced pick is not among the possibilities.
        """
        if width <= 1:
            return 0
        made = self.made
        position = len(made)
        if position < len(self._forced):
            pick = self._forced[position]
            if not 0 <= pick < width:
                raise Divergence(
                    f"choice {position + 1} of the schedule picks number {pick}, but the world offers {width} "
                    f"possibilities there ({label}). The scenario, the server or a library differs from the one that "
                    "the schedule was recorded with, or something outside the world's control was asked (a set's "
                    "order, id(), a real clock)."
                )
        elif self._limit is not None and position >= self._limit:
            self.truncated = True
            return 0
        else:
            pick = self._decide(width, label) if self._decide is not None else 0
        made.append(Choice(width, pick, label))
        return pick

    @property
    def spent(self) -> bool:
        """Whether the limit is reached: there are no more choices."""
        return self._limit is not None and len(self.made) >= max(self._limit, len(self._forced))

    @property
    def picks(self) -> tuple[int, ...]:
        """The schedule so far."""
        return tuple(choice.pick for choice in self.made)
