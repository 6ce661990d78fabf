"""Searches by states of worlds in which only what C hides tells one state from another; and pairs that have such types.

In each toy two clients send a line, the server keeps what it makes of the last one, and says only later what that was. So
between the last line and the word nothing else tells which line came last.
"""

from __future__ import annotations

import asyncio
import traceback
import types as python
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from sim import Faults, Settings
from sim.registry import find_scenario
from sim.world.fingerprint import exceptions, hints
from sim.world.fingerprint import types as types_of_fingerprints

from .test_reductions import TWO, WSPROTO, Pair, altered, find, same
from .toys import ADDRESS, Noted, Toy, talker, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim import World

pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
LATER = 0.05
"""Virtual seconds behind the last line."""


def keeping(make: Callable[[str], Any], tell: Callable[[Any], object]) -> Callable[..., None]:
    """A play in which the server makes something of each line, keeps that of the last, and tells of it later."""

    def play(world: World, _subject: Any) -> None:
        kept: list[Any] = []
        lines = 0

        class Keep(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                nonlocal lines
                lines += 1
                kept[:] = [make(data.decode())]
                if lines == 2:
                    asyncio.get_running_loop().call_later(LATER, tell_it)

        def tell_it() -> None:
            world.trace.record(Noted, "server", tell(kept[0]))

        async def main() -> None:
            async with await asyncio.get_running_loop().create_server(Keep, *ADDRESS) as server:
                await server.serve_forever()

        world.start_process("server", main)
        assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
        for name in "ab":
            world.start_script(name, talker([name]))

    return play


def with_number(line: str) -> OSError:
    error = ConnectionResetError("reset")
    error.errno = ord(line)
    return error


def raised(line: str) -> BaseException:
    try:
        if line == "a":
            raise ValueError
        raise ValueError
    except ValueError as error:
        return error


def one_of_a_line(line: str) -> Callable[[], str]:
    pair = {"a": lambda: "one", "b": lambda: "two"}
    return pair[line]


def alias(line: str) -> Any:
    return list[int] if line == "a" else list[str]


def union(line: str) -> Any:
    return int | str if line == "a" else int | bytes


def where(error: BaseException) -> int:
    return traceback.extract_tb(error.__traceback__)[-1].lineno or 0


TOYS: dict[str, tuple[Callable[[str], Any], Callable[[Any], object]]] = {
    "errno": (with_number, lambda error: error.errno),
    "where-raised": (raised, where),
    "lambdas": (one_of_a_line, lambda function: function()),
    "aliases": (alias, repr),
    "unions": (union, repr),
}


def pair_of(name: str) -> Pair:
    settings = Settings(latency=(0.0, 0.1), settle=1.0)
    return Pair(toy_scenario(keeping(*TOYS[name]), settings=settings, past="outcome"), Toy())


def by_outcome(pair: Pair) -> Pair:
    """The pair, with no more of the past in its states than outcomes are made of: more of them are then alike."""
    scenario = find_scenario(pair.scenario) if isinstance(pair.scenario, str) else pair.scenario
    return pair._replace(scenario=attrs.evolve(scenario, past="outcome", observe=None))


REAL = {
    "workaround-uvicorn": Pair("workaround", WSPROTO),
    "workaround-hypercorn": Pair("workaround", "hypercorn"),
    "workaround-reference": Pair("workaround", "reference"),
    "pong-starlette-uvicorn": Pair("unsolicited_pong", WSPROTO, {"receiving": "starlette"}),
    "pong-starlette-hypercorn": Pair("unsolicited_pong", "hypercorn", {"receiving": "starlette"}),
    "pong-starlette-granian": Pair("unsolicited_pong", "granian==1.4.2", {"receiving": "starlette"}),
    "rst-hypercorn-echoes": altered("independent_echoes", "hypercorn", {"clients": 1}, faults=Faults(rst=1)),
    "rst-hypercorn-racing": altered("racing_clients", "hypercorn", TWO, faults=Faults(rst=1)),
}
PAIRS = {
    **{name: pair_of(name) for name in TOYS},
    **{name: by_outcome(pair) for name, pair in REAL.items()},
    **{
        f"cancel-{framework}-reference": altered(
            "hello", "reference", {"app": f"tests.sim.frameworks:on_{framework}"}, faults=Faults(cancel=1)
        )
        for framework in ("starlette", "fastapi")
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_states_preserve_outcomes_and_violations(name: str) -> None:
    plain, reduced = find(PAIRS[name]), find(PAIRS[name], reduce=["states"])
    same(plain, reduced)
    assert not reduced.report.blind


@pytest.mark.parametrize("name", TOYS)
def test_each_toy_tells_two_things(name: str) -> None:
    assert len(find(PAIRS[name]).outcomes) == 2


# Planted faults: each of these makes the reduction unsound, and the suite has to see it.


def plant_exceptions_without_fields(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(exceptions.BASES, OSError, exceptions.BASES[BaseException])


def plant_tracebacks_that_are_all_one(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(exceptions.HANDLERS, python.TracebackType, lambda _walk, value: (type(value),))


def plant_code_by_its_length(patch: pytest.MonkeyPatch) -> None:
    def text(code: Any) -> str:
        return f"{code.co_filename}:{code.co_firstlineno}:{code.co_name}:{len(code.co_code)}"

    patch.setattr(types_of_fingerprints, "text_of_code", text)


def plant_aliases_that_are_all_one(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(hints.HANDLERS, python.GenericAlias, lambda _walk, value: (type(value),))


def plant_unions_that_are_all_one(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(hints.HANDLERS, python.UnionType, lambda _walk, value: (type(value),))


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (plant_exceptions_without_fields, "errno"),
        (plant_tracebacks_that_are_all_one, "where-raised"),
        (plant_code_by_its_length, "lambdas"),
        (plant_aliases_that_are_all_one, "aliases"),
        (plant_unions_that_are_all_one, "unions"),
    ],
)
def test_a_handler_that_tells_too_little_is_seen(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], name: str
) -> None:
    plain = find(PAIRS[name])
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        same(plain, find(PAIRS[name], reduce=["states"]))
