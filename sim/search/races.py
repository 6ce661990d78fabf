"""Races of a run, and which options of earlier decisions they ask for: source sets.

Theory of operation
===================

A search that explores whatever is awake at each decision begins runs that turn out to repeat another one. To explore
*one* option is enough, unless a run shows that another one would have made a difference. A run shows that by a
*race*: two of its steps, the second of which depends on the first, with nothing between them that hands the
dependence on, and which would have been possible before it. Then something has to be explored, at the decision where
the first was picked, with which a run begins that has the second before it. This is Source-DPOR (P. Abdulla, S.
Aronis, B. Jonsson and K. Sagonas, Optimal Dynamic Partial Order Reduction, POPL 2014, algorithm 1), on top of the
sleep sets of `sim.search.classes`.

A step depends on an earlier one if their footprints meet, if that one put it under way, if that one took away what
was before it in its lane, or if it depends on a third that depends on that one. The second and third are *causes*:
such a pair cannot be reversed.

Rules for this file:

1. Of a race (p, q), v is what lies between the two in the run and does not depend on p, and then q. If an *initial*
   of v (a step of v that depends on no other) is wanted at the decision before p already, nothing is to be done; nor
   if one sleeps there that q depends on, or is q. Else an initial is wanted that q depends on, or is q.
2. Steps that touch everything divide a run into *epochs*. Each race is within one, or is with a step that touches
   all.
3. Source sets take it that a step can only make possible or impossible what depends on it. For deliveries that may
   arrive at this very moment that is true. For whatever needs the clock to move it is not: a timer is due when *all*
   under way may wait until then. So where a timer, or a delivery that takes its time, may come into play in an epoch,
   all that is awake is explored at all its decisions so far, as without source sets. It may if it is due not later
   than the latest moment by which something must arrive that was under way in the epoch; who looks only at what is
   possible where he is would miss what a step has made impossible. The same goes for faults, iterations of loops and
   the scene.
4. Where a step takes an option away (a reset destroys what is in flight), all that is awake is explored before it.
5. Runs that are broken off have their races, too.

Why it is sound: Let E be a decision, Z what sleeps there and T what was explored in the end. Let w be any sequence of
steps from E that no member of Z can begin (as one of its own steps, in an equivalent order). Then an explored run
goes from E through w, up to equivalence, and then on. By induction on what is below E. If some member of T can begin
w, take the one that was explored first; nothing that sleeps behind it can begin the rest of w. If none can, take for
each x of T the longest beginning of w that does not depend on x, and that x with the longest. If it is all of w, the
decision behind x has a run through w. If it is not, let u be that beginning and q the step behind it; the decision
behind x has a run through u and q, as nothing in Z or T can begin w, and so u and q. There x and q are in a race. By
rule 1 there is an initial t of its v in T, or in Z and needed. If t is in u or is q, it can begin w, which was
excluded. If not, t is in T, and depends on nothing in u, nor does q on it; then its beginning of w is longer than
that of x, which was excluded, too. Where q is not possible behind x and u, rules 3 and 4 have T be all that is awake,
which can begin anything.

What it costs: behind each run its new steps are compared with those before them in the epoch. What it does not save:
where several races lead to one decision, a run may still end with all asleep; wakeup trees (the same paper) or Must
(OOPSLA 2024) would save these. Of random worlds (`tests/sim/letters.py`) 2 to 11 runs in 100 are such, where of sleep
sets alone 16 to 43 are; of independent_echoes and racing_clients none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.search.classes import Node


def reverse(path: Sequence[Node], fresh: int, *, isolated: bool) -> None:
    """Find the races that end in the steps from `fresh` on, and see that each is tried the other way round.

    Args:
        path: the run, whole or broken off.
        fresh: the first step that was not in a run that was looked at before.
        isolated: whether connections are (`Footprint.meets`).
    """
    start = _epoch(path, fresh)
    for number in range(fresh, len(path)):
        node = path[number]
        if node.ran.everything:
            node.past = (1 << number) - 1
            expand(path, number)
            start = number + 1
            continue
        racing = _look_back(path, start, number, isolated=isolated)
        for earlier in racing:
            _reverse(path, earlier, number)


def expand(path: Sequence[Node], number: int) -> None:
    """Explore all that is awake at a decision, and at those before it in its epoch."""
    for at in range(_epoch(path, number), number + 1):
        path[at].want_all()


def _epoch(path: Sequence[Node], number: int) -> int:
    """The first decision of the epoch to which one belongs."""
    while number > 0 and not path[number - 1].ran.everything:
        number -= 1
    return number


def _look_back(path: Sequence[Node], start: int, number: int, *, isolated: bool) -> list[int]:
    """Note what a step depends on; returns the steps with which it is in a race that can be reversed."""
    node = path[number]
    causes = _causes(path, number)
    past, racing = (1 << start) - 1, []
    for at in range(number - 1, start - 1, -1):
        if past >> at & 1:
            continue
        if at in causes:
            past |= path[at].past | 1 << at
        elif path[at].ran.meets(node.ran, isolated=isolated):
            past |= path[at].past | 1 << at
            racing.append(at)
    node.past = past
    return racing


def _causes(path: Sequence[Node], number: int) -> set[int]:
    """The steps that put this one under way, and that brought it to the head of its lane."""
    if not path[number].options:
        return set()
    option = path[number].picked
    first = number
    while first > 0 and option in path[first - 1].options:
        first -= 1
    order = option.id[1] if isinstance(option.id, tuple) else None
    created = first - 1
    if isinstance(order, int):
        while created > 0 and path[created].created >= order:
            created -= 1
    return {first - 1, created}


def _reverse(path: Sequence[Node], earlier: int, later: int) -> None:
    """See that `later` is tried before `earlier`: explore something with which a run begins that has them so."""
    node = path[earlier]
    if len(node.wanted) == len(node.options):
        return
    between = [at for at in range(earlier + 1, later) if not path[at].past >> earlier & 1] + [later]
    mask = sum(1 << at for at in between)
    numbers = {option.id: number for number, option in enumerate(node.options)}
    found: set[int] = set()
    for at in between:
        if path[at].past & mask:
            continue
        name = path[at].picked.id
        needed = at == later or path[later].past >> at & 1
        number = numbers.get(name)
        if number is None:
            if needed:
                node.want_all()
                return
            continue
        if number in node.wanted or (needed and name in node.asleep):
            return
        if needed:
            found.add(number)
    node.wanted.add(min(found))
