"""The reductions by name: reasons not to run a schedule, because an equivalent one is run. Each says what it preserves.

Several together (`sim.search.both`) preserve what each of them does. Faults and segments that arrive together change
nothing in that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen
class Reduction:
    """A reduction as people are told of it.

    Attributes:
        name: for `--reduce`.
        unit: of what there is one run each.
        preserves: what is the same as without it.
    """

    name: str
    unit: str
    preserves: str


REDUCTIONS = {
    r.name: r
    for r in (
        Reduction(
            "classes",
            "class of orders that differ only in steps that do not concern one another",
            "the set of outcomes, and of violated invariants that depend on outcome and causes; not how many orders "
            "violate one",
        ),
        Reduction(
            "states",
            "way to a state that was not seen before; a run ends where it comes to one that was",
            "the set of outcomes and of violated invariants, as far as the scenario says truly what they look at (its "
            "`past`), and the states, unless one connection is explored after the other; not how many orders violate one, "
            "nor which is the simplest",
        ),
    )
}
ISOLATED = "connections of one server process have nothing to do with one another, as the scenario declares"
"""What `isolated` lets a search assume."""
APART = (
    f"{ISOLATED}, and that claims ask for no order between them: one is explored after the other, and states in which "
    "several are half way are not"
)
"""The same where that is done (`sim.search.apart`)."""


def chosen(reduce: Sequence[str] | str) -> tuple[str, ...]:
    """The reductions that were asked for, each once; "none" is none, and commas separate.

    Raises:
        UsageError: there is no such reduction, or "none" is asked for with another one.
    """
    parts = [reduce] if isinstance(reduce, str) else list(reduce)
    names = list(dict.fromkeys(name.strip() for part in parts for name in part.split(",")))
    if "none" in names and len(names) > 1:
        raise UsageError(f"reduce={','.join(names)!r} asks for none and for one. Leave one of them out.")
    for name in names:
        if name != "none" and name not in REDUCTIONS:
            raise UsageError(f"reduce {name!r} does not exist. There are: none, {', '.join(REDUCTIONS)}.")
    return tuple(name for name in names if name != "none")
