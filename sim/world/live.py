"""A world that is moved by hand, one action or one event at a time, where `World.run` plays a whole scene.

Between two calls the world stands still and does not answer: the caller is outside, with real clocks. That is what a
test needs that decides its next action by what has come of the last: a stateful test, a debugger, a notebook.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from sim.errors import Stuck
from sim.world import blame
from sim.world.boundary import Boundary
from sim.world.clock import moment
from sim.world.host import Host
from sim.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sim.world.choices import Choices
    from sim.world.trace import Trace
    from sim.world.world import Settings

T = TypeVar("T")
PATIENCE = 3_600.0
"""Virtual seconds for which an action may wait."""


class Live:
    """A world under way. Use it as a context manager, or call `close()` in the end.

    Args:
        play: sets the scene: starts servers, as a scenario's `play` does; scripts too, if there are to be any.
        choices: where the world's decisions come from. None: first in, first out.
        settings: of the world.

    Raises:
        SimError: what came of setting the scene; so does each method, and the world is then at its end.
    """

    def __init__(
        self, play: Callable[[World], T], choices: Choices | None = None, settings: Settings | None = None
    ) -> None:
        self._boundary = Boundary()
        self.world = World(choices, settings)
        self._actions = 0
        try:
            self.scene: T = self.call(lambda: play(self.world))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def trace(self) -> Trace:
        """What has happened so far."""
        return self.world.trace

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self.world.clock.now

    def host(self, name: str) -> Host:
        """A scripted machine, for actions of your own."""
        return Host(self.world, name)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function inside the world, and let nothing happen but that: what it sends stays in flight."""
        results: list[T] = []
        self.world._inside(lambda: results.append(function(*args)))
        if self.world.failed is not None:
            raise self.world.failed
        return results[0]

    def run(self, coroutine: Coroutine[Any, Any, T], *, within: float = PATIENCE) -> T:
        """Run a script's coroutine to its end, and let happen what happens meanwhile.

        Args:
            coroutine: of the kind that scripts are (see `sim.world.fiber`).
            within: virtual seconds that it may take.

        Returns:
            What it returns. What it raises is raised here, and the world goes on.

        Raises:
            Stuck: it has not ended, and nothing can happen any more that could end it.
        """
        self._actions += 1
        fiber = self.call(self.world.start_fiber, f"action {self._actions}", _outcome(coroutine))
        ended = self.call(self.world.running.until, lambda: fiber.done, self.now + within)
        if not ended:
            self.call(fiber.cancel)
            raise Stuck(
                f"an action waits for ever: {getattr(coroutine, '__qualname__', coroutine)} has not ended at "
                f"{self.now:.3f} s of virtual time, and nothing can happen within {within:g} s that could end it. The "
                "likeliest cause is that it waits for an answer that the server has already given, or never gives."
            )
        result, error = fiber.result
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def step(self, *, within: float = 0.0) -> bool:
        """Let one thing happen: a segment arrives, a thread's result does, a timer fires; and what follows from it.

        Args:
            within: virtual seconds in which it must happen.

        Returns:
            Whether something did.
        """
        self._settle()
        happened = self.call(self.world.agenda.advance, self.now + within)
        self._settle()
        return happened

    def run_for(self, seconds: float) -> None:
        """Let everything happen that does within so many virtual seconds, and let them pass."""
        until = moment(self.now + seconds)
        self.call(self.world.running.until, lambda: False, until)
        self.world.clock.now = max(self.now, until)

    def _settle(self) -> None:
        """Let the loops do what they have to do at this moment."""
        turns = count()
        self.call(self.world.running.until, lambda: next(turns) > 0, self.now)

    def close(self) -> None:
        """End the world. Closing twice does no harm."""
        self.world.close()
        self._boundary.close()


async def _outcome(coroutine: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    """What came of it, without failing the world."""
    try:
        return await coroutine, None
    except Exception as exc:
        return None, exc


blame.edge(Live.call)
