"""Fingerprints of exceptions, tracebacks and frames: every field that Python hides in C is told."""

from __future__ import annotations

import asyncio
import builtins
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from sim.world.fingerprint import Fingerprinter
from sim.world.fingerprint.exceptions import fields

from .seeds import said_under_each
from .test_fingerprint import Thing, fingerprint, for_ever, holding
from .worlds import a_world

if TYPE_CHECKING:
    from collections.abc import Callable

BUILT_IN = [cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, BaseException)]
ARGUMENTS: dict[type[BaseException], tuple[Any, ...]] = {
    **{cls: ("why",) for cls in BUILT_IN if issubclass(cls, SyntaxError)},
    UnicodeDecodeError: ("utf-8", b"abc", 0, 1, "why"),
    UnicodeEncodeError: ("utf-8", "abc", 0, 1, "why"),
    UnicodeTranslateError: ("abc", 0, 1, "why"),
}
"""The arguments without which these cannot be made."""
FIELDS = [
    (cls, descriptor.__name__)
    for cls in dict.fromkeys(BUILT_IN)
    if cls is not BaseException and "Group" not in cls.__name__
    for descriptor in fields(cls) or ()
]
"""Each field of each class that has some of its own. Those of groups cannot be set."""


def made(cls: type[BaseException]) -> BaseException:
    """An exception of that class, the same each time."""
    return cls("why", [ValueError()]) if "Group" in cls.__name__ else cls(*ARGUMENTS.get(cls, ("a", "b")))


def with_field(cls: type[BaseException], name: str, value: object) -> BaseException:
    error = made(cls)
    setattr(error, name, value)
    return error


def two_values(name: str) -> tuple[object, object]:
    """Two values that a field can have: most take anything, some are numbers in C."""
    numbers = name in ("characters_written", "start", "end")
    return (1, 2) if numbers else ("one", "two")


def looked_at(error: object) -> tuple[bytes, bytes, Fingerprinter]:
    """Two looks at one thing, and who looked."""
    maker = Fingerprinter(past="outcome")
    return (*(fingerprint(lambda: for_ever(error), maker) for _ in range(2)), maker)  # type: ignore[return-value]


def test_there_are_fields_to_tell_apart() -> None:
    told = {(cls.__name__, name) for cls, name in FIELDS}
    assert {("OSError", "errno"), ("OSError", "characters_written"), ("StopIteration", "value")} <= told
    assert {("SystemExit", "code"), ("ImportError", "name"), ("SyntaxError", "text"), ("NameError", "name")} <= told
    assert {("UnicodeDecodeError", "object"), ("AttributeError", "obj")} <= told


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_each_field_counts(cls: type[BaseException], name: str) -> None:
    one, two = two_values(name)
    assert holding(with_field(cls, name, one)) != holding(with_field(cls, name, two))
    assert holding(with_field(cls, name, one)) == holding(with_field(cls, name, one))


@pytest.mark.parametrize("cls", dict.fromkeys(BUILT_IN))
def test_none_of_pythons_own_hides_anything(cls: type[BaseException]) -> None:
    """If a later Python's does, its size says so, and this test."""
    first, second, maker = looked_at(made(cls))
    assert first == second
    assert not maker.blind


@pytest.mark.parametrize("cls", [OSError, StopIteration, UnicodeDecodeError])
def test_a_class_that_is_derived_from_one_with_fields(cls: type[BaseException]) -> None:
    derived: Any = type("Derived", (cls,), {})
    arguments = ARGUMENTS.get(cls, ("a", "b"))
    _, name = next(pair for pair in FIELDS if pair[0] is cls)
    errors = [derived(*arguments) for _ in range(3)]
    for error, value in zip(errors, (*two_values(name), two_values(name)[0]), strict=True):
        setattr(error, name, value)
    assert holding(errors[0]) == holding(errors[2]) != holding(errors[1])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_groups() -> None:
    group = getattr(builtins, "ExceptionGroup")  # noqa: B009 - no name in 3.10
    same = [group("why", [ValueError(1), KeyError(2)]) for _ in range(2)]
    assert holding(same[0]) == holding(same[1])
    assert holding(same[0]) != holding(group("why", [ValueError(1), KeyError(3)]))
    assert holding(same[0]) != holding(group("why not", [ValueError(1), KeyError(2)]))


def with_cause(number: int, *, attribute: str = "__cause__") -> BaseException:
    error = ValueError()
    setattr(error, attribute, KeyError(number))
    error.__suppress_context__ = False
    return error


def suppressing(flag: bool) -> BaseException:
    error = ValueError()
    error.__suppress_context__ = flag
    return error


def with_attributes(**attributes: Any) -> BaseException:
    error = ValueError()
    vars(error).update(attributes)
    return error


def raised(number: int = 0, *, second: bool = False, held: object = None) -> BaseException:
    """An exception that was raised here, in one of two places, while a frame held something."""
    try:
        if second:
            _deeper(number, held)
        else:
            _deeper(number, held)
    except ValueError as error:
        return error
    raise AssertionError


def _deeper(number: int, held: object) -> None:
    raise ValueError


def without_traceback(error: BaseException) -> BaseException:
    return error.with_traceback(None)


SAME: dict[str, Callable[[], tuple[Any, Any]]] = {
    "made alike": lambda: (OSError(1, "a", "b"), OSError(1, "a", "b")),
    "raised alike": lambda: (raised(held=[1]), raised(held=[1])),
    "attributes alike": lambda: (with_attributes(__notes__=["a"]), with_attributes(__notes__=["a"])),
    "attributes that were asked for": lambda: (OSError(1), _asked(OSError(1))),
}
DIFFERENT: dict[str, Callable[[], tuple[Any, Any]]] = {
    "types": lambda: (ConnectionResetError("a"), ConnectionAbortedError("a")),
    "arguments": lambda: (ConnectionResetError("a"), ConnectionResetError("b")),
    "a file name and none": lambda: (with_field(OSError, "filename", None), made(OSError)),
    "causes": lambda: (with_cause(1), with_cause(2)),
    "contexts": lambda: (with_cause(1, attribute="__context__"), with_cause(2, attribute="__context__")),
    "a cause and a context": lambda: (with_cause(1), with_cause(1, attribute="__context__")),
    "whether the context is shown": lambda: (suppressing(True), suppressing(False)),
    "notes": lambda: (with_attributes(__notes__=["a"]), with_attributes(__notes__=["b"])),
    "attributes": lambda: (with_attributes(status=1), with_attributes(status=2)),
    "where it was raised": lambda: (raised(), raised(second=True)),
    "a traceback and none": lambda: (raised(), without_traceback(raised())),
    "values of variables of a frame": lambda: (raised(1), raised(2)),
    "what the variables of a frame refer to": lambda: (raised(held=[1]), raised(held=[2])),
}


def _asked(error: BaseException) -> BaseException:
    assert not vars(error)
    return error


@pytest.mark.parametrize("what", SAME)
def test_one_state(what: str) -> None:
    one, two = SAME[what]()
    assert holding(one) == holding(two)


@pytest.mark.parametrize("what", DIFFERENT)
def test_two_states(what: str) -> None:
    one, two = DIFFERENT[what]()
    assert holding(one) != holding(two)
    assert holding(one) == holding(one)


def test_a_file_name_that_is_none_is_printed() -> None:
    """So it has to be told from none at all, although both are read as None."""
    one, two = DIFFERENT["a file name and none"]()
    assert one.filename is two.filename is None
    assert str(one) != str(two)


def test_no_code_of_the_application_is_called() -> None:
    class SlyError(OSError):
        @property
        def args(self) -> Any:  # type: ignore[override]
            raise AssertionError

        errno = filename = __cause__ = __traceback__ = args

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError

    assert holding(SlyError(1, "a")) != holding(SlyError(2, "a"))


def test_an_exception_that_is_being_handled() -> None:
    async def main(number: int) -> None:
        try:
            raise ConnectionResetError(number, "reset")
        except OSError:
            number = 0
            await asyncio.get_running_loop().create_future()

    maker = Fingerprinter(past="outcome")
    found = [fingerprint(lambda n=n: main(n), maker) for n in (104, 32, 104)]
    assert found[0] == found[2] != found[1]
    assert not maker.blind


def test_what_was_raised_is_held_by_whoever_leaves_a_context() -> None:
    class Leaving:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *exc_info: object) -> None:
            await asyncio.get_running_loop().create_future()

    async def main(number: int) -> None:
        async with Leaving():
            raise ConnectionResetError(number)

    maker = Fingerprinter(past="outcome")
    found = [fingerprint(lambda n=n: main(n), maker) for n in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert not maker.blind


def test_what_lives_because_of_a_traceback() -> None:
    """Nobody looks at it; whether it has died is asked."""

    async def main(keep: bool) -> None:
        thing = Thing()
        reference = weakref.ref(thing)
        try:
            _deeper(0, thing)
        except ValueError as caught:
            error = caught if keep else None
        del thing, keep
        await asyncio.get_running_loop().create_future()
        print(error, reference)

    assert fingerprint(lambda: main(True)) != fingerprint(lambda: main(False))


def test_looking_at_a_traceback_leaves_nothing_behind() -> None:
    died: list[bool] = []

    def play(world: Any) -> None:
        gate: list[asyncio.Future[None]] = []

        async def main() -> None:
            try:
                _deeper(0, thing := Thing())
            except ValueError as error:
                reference = weakref.ref(thing)
                del thing
                gate.append(asyncio.get_running_loop().create_future())
                await gate[0]
                error.__traceback__ = None
            died.append(reference() is None)
            await asyncio.get_running_loop().create_future()

        world.start_process("main", main)
        world.run_until(lambda: bool(gate), within=1.0)
        Fingerprinter(past="outcome").of(world)
        gate[0].get_loop().call_soon(gate[0].set_result, None)
        world.run_until(lambda: bool(died), within=1.0)

    with a_world() as world:
        world.run(play)
    assert died == [True]


@pytest.mark.parametrize("caught", [False, True])
def test_a_dictionary_of_variables_that_the_program_asked_for_is_left_alone(caught: bool) -> None:
    """Up to Python 3.12 it is the same that looking makes, which is emptied if nobody else has it."""
    asked: list[dict[str, Any]] = []

    def fail(number: int) -> None:
        asked.append(locals())
        raise ValueError

    async def main(number: int) -> None:
        if caught:
            try:
                fail(number)
            except ValueError:
                await asyncio.get_running_loop().create_future()
        asked.append(locals())
        await asyncio.get_running_loop().create_future()

    fingerprint(lambda: main(7))
    assert asked[0]["number"] == 7


def test_the_namespace_of_a_class_that_could_not_be_made_is_left_alone() -> None:
    """A frame that makes a class has that for its variables, and no copy."""
    namespaces: list[dict[str, Any]] = []

    class Names(type):
        @classmethod
        def __prepare__(cls, *_: Any, **__: Any) -> dict[str, Any]:
            namespaces.append({})
            return namespaces[-1]

    error: BaseException | None = None
    try:

        class Broken(metaclass=Names):
            number = 7
            raise ValueError

    except ValueError as caught:
        error = caught
    holding(error)
    assert namespaces[0]["number"] == 7


def test_frames_of_the_engine_are_their_position() -> None:
    """What a script connects to says so with variables of its own, which no program has."""
    made: list[BaseException] = []
    space: dict[str, Any] = {"__name__": "sim.somewhere"}
    exec("def fail(n):\n    raise ValueError\n", space)
    for number in (1, 2):
        try:
            space["fail"](number)
        except ValueError as error:
            made.append(error)
            assert error.__traceback__ is not None
            error.__traceback__ = error.__traceback__.tb_next
    assert holding(made[0]) == holding(made[1])


# Futures and tasks keep exceptions, too.


def failed(*, asked: bool = False, number: int = 0) -> Callable[[], Any]:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        try:
            _deeper(number, None)
        except ValueError as error:
            future.set_exception(error)
            error.__traceback__ = None
        if asked:
            future.exception()
        await for_ever(future)

    return main


def test_whether_a_futures_exception_was_asked_for() -> None:
    """If not, that is logged when the future dies."""
    assert fingerprint(failed()) == fingerprint(failed())
    assert fingerprint(failed()) != fingerprint(failed(asked=True))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="futures keep it since Python 3.11")
def test_the_traceback_that_a_future_raises_its_exception_with() -> None:
    async def main(number: int) -> None:
        future = asyncio.get_running_loop().create_future()
        try:
            (_deeper if number else _elsewhere)(0, None)
        except ValueError as error:
            future.set_exception(error)
            error.__traceback__ = None
        number = 0
        await for_ever(future)

    assert fingerprint(lambda: main(0)) != fingerprint(lambda: main(1))


def _elsewhere(number: int, held: object) -> None:
    raise ValueError


def test_what_a_cancelled_future_says() -> None:
    async def main(why: str) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel(why)
        why = ""
        await for_ever(future)

    assert fingerprint(lambda: main("a")) != fingerprint(lambda: main("b"))
    assert fingerprint(lambda: main("a")) == fingerprint(lambda: main("a"))


def test_what_a_cancelled_task_keeps() -> None:
    async def main(why: str) -> None:
        async def give_up(why: str) -> None:
            raise asyncio.CancelledError(why)

        task = asyncio.ensure_future(give_up(why))
        why = ""
        await asyncio.wait([task])
        await for_ever(task)

    assert fingerprint(lambda: main("a")) != fingerprint(lambda: main("b"))
    assert fingerprint(lambda: main("a")) == fingerprint(lambda: main("a"))


# In other processes.

PROGRAM = """
from tests.sim.test_fingerprint import holding
from tests.sim.test_fingerprint_exceptions import *
for make in (*SAME.values(), *DIFFERENT.values()):
    print(*[holding(value).hex() for value in make()])
for cls, name in FIELDS:
    print(holding(with_field(cls, name, two_values(name)[0])).hex())
"""


def test_the_same_under_each_hash_seed() -> None:
    said = said_under_each(PROGRAM)
    assert len(said) == 1
    (lines,) = said
    assert len(lines.split()) > 40
