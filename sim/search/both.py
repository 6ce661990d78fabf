"""The reductions "classes" and "states" together: sleep sets over a graph of states.

Theory of operation
===================

The search is that of `sim.search.classes`: depth first, by replay, with sleep sets. Where the world decides what happens
next, behind the path, its state gets a fingerprint (`sim.world.fingerprint`). Beside each state is kept which of its
options were never explored *from there*, because they slept whenever the search came by. A visit explores of these
the ones that do not sleep now, and takes them off; if there are none, the run ends.

To end at each known state would be simpler. But an option that slept at the first visit was left out because the *path*
to it had passed by a run that had what would come of it, and another path has passed by other runs. Where no state comes
round again that does no harm, because all that the first visit relied on was done before it; where one does, that
reasoning goes round, too. The remedy is P. Godefroid's, G. Holzmann's and D. Pirottin's (State-space caching revisited,
CAV 1992). It costs two runs in a hundred on the random programs of the tests, which have never missed it.

Rules for this file:

1. Preserved is what both preserve: up to the order of steps that do not concern one another, every state that can be
   reached is; so the set of outcomes, and of violated invariants that look at no more than that and the scenario's `past`.
2. A visit of a known state goes on with less asleep than its path brought: only what slept there at *every* visit.
   What the path holds asleep and an earlier visit explored is awake again. For that visit has run it with the options asleep
   that are explored now, and so has not run the orders in which they come behind it.
3. Options are kept by what the fingerprint calls them (the number of their lane), because names of a run mean nothing in
   another one. Footprints are never kept: a visit has those of its own path, which were taken in this very state, or in
   one from which only steps led here that do not meet them.
4. A run that ends at a known state has executed its last step to the end, since states are looked up where steps end. So the
   footprint of that step is whole, and the step may sleep. What would have been touched *behind* the state is of no
   concern: a footprint is of one step, and no step's depends on how far its successors were explored.
5. Between two iterations of a loop no state is looked up; sleep sets go on there as in `classes`. Nor is one where a
   timer is all that can happen: what comes of that is the same step.
6. Rules 3 and 4 of `sim.search.states` hold: pasts belong to states, and a run that comes round to one of its own states
   without having had a choice is not ended. There nothing is looked up, and nothing is kept.
7. Where connections are isolated, and claims look at each one's events only, a state asks only for the options of one
   connection (`sim.search.apart`). Then rule 1 is true of states in which one connection after the other has come to its end.

Why it is sound, also where the graph of states has circles: let w be a sequence of steps from a state s that was visited,
and let none of the steps with which w, or an equivalent of it, can begin have slept at that visit. Then a state that
w leads to, or an equivalent one, is reached by the search. By induction on the length of w: each step with which w can
begin was explored from s, at that visit or before. Take the last visit that explored one of them, and of those it
explored the first, t; so w is equivalent to t w'. Suppose that a step x that sleeps behind t could begin w'. It does not
meet t, so it can begin w. If it slept at that visit, then at every visit up to it (rule 2), and it was explored at a later
one, which is not. If it was explored at that visit before t, t was not the first. So nothing that sleeps behind t can
begin w', which is shorter. The order of the search is nowhere in this, nor is its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.errors import SimError
from sim.search.apart import Apart, apart
from sim.search.classes import Classes, awake, hashable
from sim.search.states import States, knowledge_of
from sim.world.agenda import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.classes import Asleep, Node
    from sim.search.policy import Policy
    from sim.world.fingerprint import Knowledge
    from sim.world.fingerprint.past import Kind
    from sim.world.footprint import Footprint, Option
    from sim.world.world import World

HEADS = ("early", "late")
"""How the head of a lane may arrive; what else may happen never sleeps, and has no name."""
NOTHING: frozenset[Hashable] = frozenset()


class LeftOut(States):
    """The states that a search with both reductions has seen, and what it has left out at each.

    Args:
        past: how much of the past belongs to a state (`Scenario.past`).
        knowledge: what the subject says of its code.
        symmetry: whether scripts that were started as `alike` are taken for one another.
        apart: has one connection explored after the other (rule 7). None: all at once.
    """

    def __init__(
        self,
        *,
        past: Kind,
        knowledge: Knowledge | None = None,
        symmetry: bool = False,
        apart: Apart | None = None,
    ) -> None:
        super().__init__(past=past, knowledge=knowledge, symmetry=symmetry)
        self._apart = apart
        self._path: Sequence[Node] = ()
        self._left_out: dict[bytes, frozenset[Hashable]] = {}
        """What was never explored from a state; only where there is something."""
        self._world: World | None = None
        self._own: set[bytes] = set()
        self._choices = -1

    @property
    def one_by_one(self) -> bool:
        return self._apart is not None

    @property
    def due(self) -> bool:
        return super().due or (self._apart is not None and not self._apart.hold)

    def begin_again(self) -> None:
        super().begin_again()
        self._left_out.clear()
        if self._apart is not None:
            self._apart = Apart() if self._apart.hold else None

    def state(self) -> Any:
        left_out = [[key.hex(), sorted(map(_written, names), key=repr)] for key, names in self._left_out.items()]
        return [super().state(), left_out, self._apart.state() if self._apart is not None else None]

    def resume(self, state: Any) -> None:
        states, left_out, apart = state
        super().resume(states)
        self._left_out = {bytes.fromhex(key): frozenset(map(_read, names)) for key, names in left_out}
        if apart is None:
            self._apart = None
        elif self._apart is not None:
            self._apart.resume(apart)

    def policy(self, *, isolated: bool) -> Classes:
        """A policy that asks here what to explore."""
        policy = Classes(isolated=isolated, visit=self.visit, ended=self._ended)
        self._path = policy.path
        return policy

    def lookout(self, forced: Sequence[int]) -> Callable[[World], bool]:  # noqa: ARG002 - `visit` is asked behind the path
        """Notes which world it is. Whether a run may end there, `visit` decides, which knows what sleeps."""
        self.fingerprinter.forget()
        self._world = None
        self._own.clear()
        self._choices = -1

        def note(world: World) -> bool:
            self.tied = self.tied or world.tied
            self._world = world
            return False

        return note

    def visit(self, options: Sequence[Option], asleep: Asleep) -> tuple[set[int], Asleep]:
        """What to explore of a state with these options, of which some sleep, and what sleeps behind that (rule 2).

        Raises:
            Known: all that is awake was explored from there.
            Redundant: nothing is awake.
        """
        world = self._world
        if world is None:  # the scene is being set
            return awake(options, asleep)
        made = len(world.choices.made)
        if made != self._choices:
            self._choices = made
            self._own.clear()
        key = self.fingerprinter.of(world)
        ours = range(len(options)) if self._apart is None else self._apart.options(world, self._path, options, key)
        if key in self._own:
            return awake(options, asleep)
        self._own.add(key)
        names = self._names(world, options)
        sleeping = frozenset(names[option.id] for option in options if option.id in asleep)
        all_of_them = frozenset(names[options[number].id] for number in ours)
        before = all_of_them if self.visited.add(key) else self._left_out.get(key, NOTHING)
        if not before.issubset(names.values()):
            offered = set(names.values())
            raise SimError(f"two states with one fingerprint offer {set(before)} and {offered}: this is a bug.")
        left = before & sleeping
        if left:
            self._left_out[key] = left
        else:
            self._left_out.pop(key, None)
        explore = {number for number in awake(options, asleep)[0] if names[options[number].id] in before}
        if not explore:
            raise Known
        return explore, {option.id: asleep[option.id] for option in options if names[option.id] in left}

    def _ended(self, footprint: Footprint) -> None:
        if self._apart is not None and self._world is not None:
            self._apart.ended(self._world, self._path, footprint)

    def _names(self, world: World, options: Sequence[Option]) -> dict[Hashable, Hashable]:
        """What each option is called in every world of this state, by its id (rule 3)."""
        lanes = {lane.segments[0].order: lane for lane in world.agenda.lanes if lane.segments}
        names: dict[Hashable, Hashable] = {}
        for option in options:
            how, order = option.id if isinstance(option.id, tuple) else (option.id, None)
            names[option.id] = (how, self.fingerprinter.number(lanes[order])) if how in HEADS else option.id
        return names


def _written(name: Hashable) -> Any:
    """An option's name (rule 3) as JSON types."""
    return [name[0], name[1].hex()] if isinstance(name, tuple) and name[0] in HEADS else name


def _read(record: Any) -> Hashable:
    """The name that `_written` made a record of."""
    name = hashable(record)
    return (name[0], bytes.fromhex(name[1])) if isinstance(name, tuple) and name[0] in HEADS else name


def reduced(
    make: Callable[[], Policy],
    reductions: Sequence[str],
    scenario: Scenario,
    subject: Subject,
    *,
    symmetry: bool = False,
) -> tuple[Policy, States | None]:
    """The policy of a search with these reductions, and the states that it sees, if it tells them apart.

    Args:
        make: makes the policy without "classes", which is one of its own.
        reductions: names, as `sim.search.reduction.chosen` gives them.
        scenario: says what of the past counts, and whether connections are isolated.
        subject: says what is known of its code.
        symmetry: whether scripts that were started as `alike` are taken for one another.
    """
    knowledge = knowledge_of(subject)
    if "states" not in reductions:
        return (Classes(isolated=scenario.isolated) if "classes" in reductions else make()), None
    if "classes" not in reductions:
        states = States(past=scenario.past, knowledge=knowledge, symmetry=symmetry)
        return states.wrap(make), states
    both = LeftOut(past=scenario.past, knowledge=knowledge, symmetry=symmetry, apart=apart(scenario))
    return both.wrap(lambda: both.policy(isolated=scenario.isolated)), both
