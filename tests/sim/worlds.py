"""How the tests of `sim.world` run things in a world."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from sim.world.choices import Choices
from sim.world.world import Settings, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

T = TypeVar("T")
ADDRESS = ("127.0.0.1", 8000)


@contextlib.contextmanager
def a_world(picks: Sequence[int] = (), **settings: Any) -> Iterator[World]:
    """A world that is closed in the end."""
    with World(Choices(picks), Settings(**settings)) as world:
        yield world


def run_main(main: Callable[[], Coroutine[Any, Any, T]], picks: Sequence[int] = (), **settings: Any) -> T:
    """Run `main` as the one process of a world until it has ended; return or raise what it does."""
    with a_world(picks, **{"settle": 0.0, **settings}) as world:
        return run_in(world, main)


def run_in(world: World, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The same in a world of your own."""

    def play(world: World) -> None:
        process = world.start_process("main", main)
        ended = world.run_until(lambda: process.exited, within=world.settings.horizon)
        assert ended, "the main coroutine has not ended"

    world.run(play)
    (process,) = world.processes
    if process.exit_reason is not None:
        raise process.exit_reason
    return process.main.result()  # type: ignore[no-any-return]


def run_sync(function: Callable[[], T], **settings: Any) -> T:
    """Call a plain function inside a process of a world."""

    async def main() -> T:
        return function()

    return run_main(main, **settings)


def play_world(play: Callable[[World], object], picks: Sequence[int] = (), **settings: Any) -> World:
    """Play a scene to its end; the world that is returned is closed."""
    with a_world(picks, **settings) as world:
        world.run(play)
    return world


def every_schedule(play: Callable[[World], T], **settings: Any) -> dict[tuple[int, ...], T]:
    """Play a scene in every order there is; what `play` returns for each schedule. For small scenes."""
    results: dict[tuple[int, ...], T] = {}
    forced: tuple[int, ...] | None = ()
    while forced is not None:
        found: list[T] = []
        world = play_world(lambda w, found=found: found.append(play(w)), forced, **settings)  # type: ignore[misc]
        results[world.choices.picks] = found[0]
        made = world.choices.made
        while made and made[-1].pick + 1 >= made[-1].width:
            made.pop()
        forced = (*(c.pick for c in made[:-1]), made[-1].pick + 1) if made else None
    return results
