"""A scenario: a story with clients, an application, a configuration, and the properties that it claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import UsageError
from sim.world.fingerprint.past import PASTS
from sim.world.trace import Event
from sim.world.world import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sim.check.invariants import Invariant
    from sim.world.fingerprint.past import Kind
    from sim.world.trace import Trace


@attrs.frozen
class Param:
    """A scenario's parameter, for `--param NAME=VALUE`.

    Attributes:
        name: an identifier; `play` gets it as a keyword argument.
        default: its value if nothing else is said; its type is the parameter's.
        help: one line.
        options: the values that are allowed; empty: any of the type.
    """

    name: str
    default: Any
    help: str
    options: tuple[Any, ...] = ()

    def parse(self, text: str) -> Any:
        """The value that `text` stands for.

        Raises:
            UsageError: it is not of the parameter's type, or not among its options.
        """
        kind = type(self.default)
        try:
            value: Any = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise UsageError(f"parameter {self.name}={text!r} is not of type {kind.__name__}: {self.help}.") from None
        return self.check(value)

    def check(self, value: Any) -> Any:
        """`value`, if it is allowed.

        Raises:
            UsageError: it is not.
        """
        if isinstance(self.default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(self.default):
            raise UsageError(
                f"parameter {self.name}={value!r} is not of type {type(self.default).__name__}: {self.help}."
            )
        if self.options and value not in self.options:
            allowed = ", ".join(str(o) for o in self.options)
            raise UsageError(f"parameter {self.name}={value!r} is not allowed. It can be: {allowed}.")
        return value


@attrs.frozen(eq=False)
class Scenario:
    """What is explored.

    Attributes:
        name: what the command line calls it.
        story: the story, in prose; its first line is the summary.
        play: called as `play(world, subject, **params)`; starts the server and the scripts.
        invariants: what it claims.
        servers: the subjects that are explored if nobody names others, as requirements.
        params: its parameters.
        settings: of its worlds, given the parameters; granularity and horizon can be overridden.
        isolated: whether the connections of one server process have nothing to do with one another: neither the server
            nor the application shares between them what could show. Reductions then take it for granted, and say so. If
            `past` is types of events, too, the claims may ask for no order between events of two connections.
        observe: names what a run shows, in a few words; runs with one name are counted together. None: not named.
        past: how much of a run the invariants and `observe` look at, for the reduction by states: "trace" (anything),
            "conversations", "outcome", or the types of events that they look at, each actor's in their order (see
            `sim.world.fingerprint.past`).
    """

    name: str
    story: str
    play: Callable[..., object]
    invariants: tuple[Invariant, ...]
    servers: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    settings: Callable[..., Settings] = lambda **_params: Settings()
    observe: Callable[[Trace], str] | None = None
    isolated: bool = False
    past: Kind = attrs.field(default="trace")

    @past.validator
    def _known(self, _attribute: object, value: Kind) -> None:
        types = (
            isinstance(value, tuple)
            and value
            and all(isinstance(kind, type) and issubclass(kind, Event) for kind in value)
        )
        if not types and value not in PASTS:
            raise UsageError(
                f"past={value!r} does not exist. There are: {', '.join(PASTS)}, or a tuple of types of events."
            )

    @property
    def summary(self) -> str:
        """The story's first line."""
        return self.story.strip().partition("\n")[0]

    def arguments(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All parameters: the given ones, checked (text is parsed), and defaults for the rest.

        Raises:
            UsageError: an unknown name or a bad value.
        """
        by_name = {p.name: p for p in self.params}
        values = {p.name: p.default for p in self.params}
        for name, value in (given or {}).items():
            if name not in by_name:
                known = ", ".join(sorted(by_name)) or "none"
                raise UsageError(f"scenario {self.name!r} has no parameter {name!r}. Its parameters are: {known}.")
            param = by_name[name]
            values[name] = param.parse(value) if isinstance(value, str) else param.check(value)
        return values
