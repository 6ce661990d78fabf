"""Fingerprints of type hints, of code, and of smaller types that are written in C."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import random
import struct
import sys
import threading
import time
import typing
from typing import TYPE_CHECKING, Any

import pydantic_core
import pytest

from sim.world.boundary import Dispatcher
from sim.world.fingerprint import Fingerprinter, Knowledge

from .seeds import said_under_each
from .test_fingerprint import fingerprint, for_ever, holding

if TYPE_CHECKING:
    from collections.abc import Callable

CALLABLE: Any = collections.abc.Callable
NEW = sys.version_info >= (3, 12)
"""Whether a type variable's bound may be a function of the application's, that is called when it is asked for."""
DEFAULTS = sys.version_info >= (3, 13)


def namespace(source: str) -> dict[str, Any]:
    """What some source defines; the same file and line each time."""
    found: dict[str, Any] = {"__name__": "application"}
    exec(compile(source, "application.py", "exec"), found)
    return found


def parameter(source: str) -> Any:
    """The first type parameter of a class `A`."""
    return namespace(source)["A"].__type_params__[0]


def with_local(**values: Any) -> threading.local:
    made = threading.local()
    vars(made).update(values)
    return made


def drawn(times: int) -> random.Random:
    made = random.Random(7)
    for _ in range(times):
        made.random()
    return made


VARIABLES = contextvars.ContextVar[int]("one"), contextvars.ContextVar[int]("two", default=0)


def token(which: int = 0, *, before: int | None = None, used: bool = False) -> contextvars.Token[int]:
    """What setting a variable gives, in a context of its own."""

    def make() -> contextvars.Token[int]:
        if before is not None:
            VARIABLES[which].set(before)
        made = VARIABLES[which].set(7)
        if used:
            VARIABLES[which].reset(made)
            VARIABLES[which].set(7)
        return made

    return contextvars.Context().run(make)


def variable(name: str = "T", **more: Any) -> Any:
    return typing.TypeVar(name, **more)


def marked(mark: int) -> Any:
    made = variable()
    made.mark = mark
    return made


SAME: dict[str, Callable[[], tuple[Any, Any]]] = {
    "aliases": lambda: (list[int], list[int]),
    "unions": lambda: (int | str, int | str),
    "aliases of callables": lambda: (CALLABLE[[int], str], CALLABLE[[int], str]),
    "type variables": lambda: (variable(bound=int), variable(bound=int)),
    "ParamSpecs": lambda: (typing.ParamSpec("P"), typing.ParamSpec("P")),
    "lambdas of one place": lambda: tuple((lambda: "one") for _ in range(2)),
    "generators of numbers": lambda: (drawn(1), drawn(1)),
    "locals of a thread": lambda: (with_local(a=[1]), with_local(a=[1])),
    "tokens": lambda: (token(before=1), token(before=1)),
}
DIFFERENT: dict[str, Callable[[], tuple[Any, Any]]] = {
    "arguments of aliases": lambda: (list[int], list[str]),
    "origins of aliases": lambda: (list[int], set[int]),
    "arguments of unions": lambda: (int | str, int | bytes),
    "orders of a union": lambda: (int | str, str | int),
    "arguments of callables": lambda: (CALLABLE[[int], str], CALLABLE[[str], str]),
    "an alias of callables and one of lists": lambda: (CALLABLE[[int], str], list[int]),
    "aliases of objects of a run": lambda: (list[variable()], list[variable(bound=int)]),  # type: ignore[misc]
    "names of type variables": lambda: (variable("T"), variable("U")),
    "bounds": lambda: (variable(bound=int), variable(bound=str)),
    "a bound and none": lambda: (variable(bound=int), variable()),
    "variances": lambda: (variable(covariant=True), variable(contravariant=True)),
    "constraints": lambda: (typing.TypeVar("T", int, str), typing.TypeVar("T", int, bytes)),  # type: ignore[misc]
    "attributes of a type variable": lambda: (marked(1), marked(2)),
    "bounds of ParamSpecs": lambda: (typing.ParamSpec("P", bound=int), typing.ParamSpec("P", bound=str)),  # type: ignore[misc]
    "arguments of ParamSpecs": lambda: (typing.ParamSpec("P").args, typing.ParamSpec("Q").args),
    "arguments and keywords": lambda: (typing.ParamSpec("P").args, typing.ParamSpec("P").kwargs),
    "lambdas of one line": lambda: ((lambda: "one"), (lambda: "two")),
    "lambdas of one line and other sets": lambda: ((lambda x: x in {"a", "b"}), (lambda x: x in {"a", "c"})),
    "generators of one line": lambda: ((n for n in [1] if n < 1), (n for n in [1] if n < 2)),
    "code": lambda: ((lambda: "one").__code__, (lambda: "two").__code__),
    "generators of numbers": lambda: (drawn(1), drawn(2)),
    "locals of a thread": lambda: (with_local(a=1), with_local(a=2)),
    "tokens of two variables": lambda: (token(0), token(1)),
    "what tokens take back": lambda: (token(before=1), token(before=2)),
    "a token that takes back nothing": lambda: (token(), token(before=1)),
    "used tokens": lambda: (token(before=1), token(before=1, used=True)),
    "formats": lambda: (struct.Struct(">I"), struct.Struct(">Q")),
    "methods of formats": lambda: (struct.Struct(">I").pack, struct.Struct(">Q").pack),
}
if sys.version_info >= (3, 11):
    DIFFERENT["unpacked aliases"] = lambda: (tuple[int], next(iter(tuple[int])))
    DIFFERENT["names of TypeVarTuples"] = lambda: (typing.TypeVarTuple("A"), typing.TypeVarTuple("B"))
if NEW:
    SAME["parameters"] = lambda: (parameter("class A[T: int]: pass"), parameter("class A[T: int]: pass"))
    DIFFERENT["parameters"] = lambda: (parameter("class A[T: int]: pass"), parameter("class A[T: str]: pass"))
    DIFFERENT["a bound and constraints"] = lambda: (
        parameter("class A[T: (int, str)]: pass"),
        parameter("class A[T: tuple[int, str]]: pass"),
    )
    DIFFERENT["named types"] = lambda: (namespace("type A = int")["A"], namespace("type A = str")["A"])
if DEFAULTS:
    DIFFERENT["defaults of type variables"] = lambda: (variable(default=int), variable(default=str))
    DIFFERENT["a bound and a default"] = lambda: (variable(bound=int), variable(default=int))
    DIFFERENT["defaults of ParamSpecs"] = lambda: (
        typing.ParamSpec("P", default=[int]),  # type: ignore[call-arg]
        typing.ParamSpec("P", default=[str]),  # type: ignore[call-arg]
    )


@pytest.mark.parametrize("what", SAME)
def test_one_state(what: str) -> None:
    one, two = SAME[what]()
    assert holding(one) == holding(two)


@pytest.mark.parametrize("what", DIFFERENT)
def test_two_states(what: str) -> None:
    one, two = DIFFERENT[what]()
    assert holding(one) != holding(two)


@pytest.mark.parametrize("what", [*SAME, *DIFFERENT])
def test_they_hide_nothing(what: str) -> None:
    maker = Fingerprinter(past="outcome")
    for value in (SAME | DIFFERENT)[what]():
        assert fingerprint(lambda value=value: for_ever(value), maker) == fingerprint(
            lambda value=value: for_ever(value), maker
        )
    assert not maker.blind


@pytest.mark.skipif(not NEW, reason="earlier Pythons work a bound out at once")
def test_a_bound_is_not_worked_out() -> None:
    """That would call the application."""
    found = namespace("asked = []\nclass A[T: asked.append(1)]: pass")
    first = holding(found["A"].__type_params__[0])
    assert found["asked"] == []
    assert holding(found["A"].__type_params__[0]) == first


def test_a_token_of_a_variable_whose_text_is_the_applications() -> None:
    """Its text would have to be asked for, and a used token is not told from another otherwise."""

    class Default:
        def __repr__(self) -> str:
            raise AssertionError

    maker = Fingerprinter(past="outcome")
    made = contextvars.ContextVar("own", default=Default()).set(Default())  # noqa: B039 - that is the point
    assert fingerprint(lambda: for_ever(made), maker) != fingerprint(lambda: for_ever(made), maker)
    assert maker.blind


def test_a_local_that_is_derived_from_may_call_the_application() -> None:
    class Derived(threading.local):
        pass

    maker = Fingerprinter(past="outcome")
    made = Derived()
    assert fingerprint(lambda: for_ever(made), maker) != fingerprint(lambda: for_ever(made), maker)
    assert maker.blind


def test_what_stands_for_a_clock_is_its_name() -> None:
    kinds = set()

    async def main(which: str) -> None:
        held = vars(time)[which]
        kinds.add(type(held))
        which = ""
        await asyncio.get_running_loop().create_future()
        held()

    maker = Fingerprinter(past="outcome")
    found = [fingerprint(lambda which=which: main(which), maker) for which in ("time", "monotonic", "time")]
    assert found[0] == found[2] != found[1]
    assert kinds == {Dispatcher}
    assert not maker.blind


def test_what_pytest_makes_of_assertions_is_not_of_the_application() -> None:
    """This function's own are rewritten, too: that they call pytest is nothing that a state depends on."""

    async def main(number: int) -> None:
        assert number == 1
        await asyncio.get_running_loop().create_future()

    assert "@pytest_ar" in main.__code__.co_names
    maker = Fingerprinter(past="outcome")
    assert fingerprint(lambda: main(1), maker) == fingerprint(lambda: main(1), maker)
    assert not maker.blind


def test_what_says_all_of_itself_when_it_is_pickled() -> None:
    knowledge = Knowledge(pickled=frozenset({"pydantic_core._pydantic_core.SchemaValidator"}))
    knowing, ignorant = Fingerprinter(past="outcome", knowledge=knowledge), Fingerprinter(past="outcome")
    made = [pydantic_core.SchemaValidator({"type": kind}) for kind in ("int", "str", "int")]  # type: ignore[misc]
    found = [fingerprint(lambda one=one: for_ever(one), knowing) for one in made]
    assert found[0] == found[2] != found[1]
    assert not knowing.blind
    assert len({fingerprint(lambda: for_ever(made[0]), ignorant) for _ in range(3)}) == 3


PROGRAM = """
from tests.sim.test_fingerprint import holding
from tests.sim.test_fingerprint_hints import *
for make in (*SAME.values(), *DIFFERENT.values()):
    print(*[holding(value).hex() for value in make()])
"""


def test_the_same_under_each_hash_seed() -> None:
    said = said_under_each(PROGRAM)
    assert len(said) == 1
    (lines,) = said
    assert len(lines.split()) > 40
