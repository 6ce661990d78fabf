"""How a line is found: values in words, what a line is suspected of, what a recorder writes down, where two runs part."""

from __future__ import annotations

import enum
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sim.errors import Divergence, SimError
from sim.search import culprit, lines
from sim.search.culprit import TIMES, compare, named
from sim.search.lines import Lines, Place
from sim.search.suspects import SET, Suspects
from sim.search.values import LONGEST, told

if TYPE_CHECKING:
    from collections.abc import Callable

# Values.


class Point:
    def __init__(self, x: object, y: object = None) -> None:
        self.x, self.y = x, y

    def __repr__(self) -> str:
        raise AssertionError("nothing of the program is called")

    __eq__ = __hash__ = __iter__ = __len__ = __repr__  # type: ignore[assignment]


class Slotted:
    __slots__ = ("empty", "full")

    def __init__(self) -> None:
        self.full = 1

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        raise AssertionError("nothing of the program is called")


class Colour(enum.IntEnum):
    RED = 1


class Names(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        raise AssertionError("nothing of the program is called")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("a", "'a'"),
        (Colour.RED, "Colour(1)"),
        ([1, (2, b"x")], "[1, (2, b'x')]"),
        ({3, 1, 2}, "{1, 2, 3}"),
        ({"b": 1, "a": {2}}, "{'b': 1, 'a': {2}}"),
        (Names([1]), "Names[1]"),
        (Point(1, Point("a")), "Point(x=1, y=Point(x='a', y=None))"),
        (Path, "Path"),
        (object(), "<object>"),
        (Path("/tmp"), f"<{type(Path('/tmp')).__name__}>"),
        (ValueError("no"), "ValueError(args=('no'))"),
        (itertools.count(3), "count(3)"),
        (sys.settrace, "settrace"),
        ([[[[[1]]]]], "[[[[<list>]]]]"),
    ],
)
def test_values_in_words(value: object, text: str) -> None:
    assert told(value) == text


def test_slots_are_looked_into_and_nothing_is_called() -> None:
    assert told([Slotted()]) == "[Slotted(full=1)]"


def test_a_value_in_itself() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    assert told(ring) == "[1, <list>]"


def test_texts_are_bounded_and_tell_their_ends_apart() -> None:
    one, two = told("x" * 10_000 + "a"), told("x" * 10_000 + "b")
    assert one != two
    assert len(one) < LONGEST + 20
    assert len(told([list(range(1_000)) for _ in range(1_000)])) < 4_000
    assert told(set(range(10_000))) == "{10000 members}"


def test_sets_of_one_content_have_one_text_whatever_their_order() -> None:
    assert told(frozenset("hgfedcba")) == told(frozenset("abcdefgh"))


# What a line is suspected of.


class Group:
    members = {1, 2}  # noqa: RUF012

    def __init__(self) -> None:
        self.tasks = {1, 2}
        self.queue = [1, 2]


NAMES = {"group": Group(), "numbers": {1, 2}, "ordered": [1, 2], "clocks": {"now": time.time}, "random": None}


@pytest.mark.parametrize(
    ("source", "suspected"),
    [
        ("for x in numbers: pass", SET),
        ("for x in ordered: pass", None),
        ("for x in group.tasks: pass", SET),
        ("for x in group.members: pass", SET),
        ("for x in group.queue: pass", None),
        ("y = [x for x in numbers | {3}]", SET),
        ("y = list(group.tasks)", SET),
        ("y = sorted(group.tasks)", None),
        ("y = ','.join(set(ordered))", SET),
        ("y = numbers.pop()", SET),
        ("y = ordered.pop()", None),
        ("first, *rest = (*numbers,)", SET),
        ("y = 1 in numbers", None),
        ("y = id(group)", "it asks for id()"),
        ("y = hash(group)", "it asks for hash()"),
        ("y = clocks['now']()", "clocks['now'] is a real clock"),
        ("y = len(ordered)", None),
        ("y = unknown.thing[0]()", None),
    ],
)
def test_what_a_line_is_suspected_of(tmp_path: Path, source: str, suspected: str | None) -> None:
    file = tmp_path / "application.py"
    file.write_text(f"\n{source}\n")
    suspects = Suspects(str(file), 2)
    suspects.look(NAMES, {})
    if suspected is None:
        assert suspects.known == []
    else:
        assert suspects.known[0].startswith(suspected)


def test_a_line_in_the_middle_of_a_statement_is_suspected_of_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "application.py"
    file.write_text("y = dict(\n    a=1,\n    b=list({1, 2}),\n)\nif y:\n    for x in {1}:\n        pass\n")
    assert Suspects(str(file), 2).known == []
    found = [Suspects(str(file), line) for line in (2, 5, 6)]
    for suspects in found:
        suspects.look({}, {})
    assert [suspects.known for suspects in found] == [[SET], [], [SET]]


def test_no_source_no_suspects() -> None:
    assert Suspects("<string>", 1).known == []


# Recording and comparing.


def recorded(function: Callable[[], object]) -> lines.Recording:
    with Lines() as recorder:
        function()
    return recorder.recording()


def line_of(function: Callable[..., object], behind: int) -> Place:
    return Place(__file__, function.__code__.co_firstlineno + behind)


def test_who_traced_before_traces_again() -> None:
    def tracer(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        recorded(lambda: None)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_equal_runs_are_equal() -> None:
    def run() -> int:
        total = 0
        for number in {1, 2, 3}:
            total += number
        return total

    assert compare(recorded(run), recorded(run)) is None


def test_a_local_that_differs_is_the_fault_of_the_line_before() -> None:
    source = iter("ab")
    letters = [next(source), next(source)]

    def run() -> None:
        letter = letters.pop()
        str(letter)

    said = compare(recorded(run), recorded(run))
    assert said is not None
    assert f"part at {__file__}:{line_of(run, 1).line}: letter = letters.pop()" in said
    assert "letters was ['a', 'b'], then ['a']: it is kept from one run to the next" in said


def test_another_way_is_the_fault_of_the_line_that_took_it() -> None:
    def run(thing: object) -> str:
        if thing is None:
            return "none"
        return "some"

    one, two = recorded(lambda: run(None)), recorded(lambda: run(1))
    said = compare(one, two)
    assert said is not None
    assert "thing was None, then 1" in said


def test_a_run_that_ends_early() -> None:
    def run(number: int) -> None:
        for _ in range(number):
            pass

    numbers = iter((3, 4))
    said = compare(recorded(lambda: run(next(numbers))), recorded(lambda: run(next(numbers))))
    assert said is not None
    assert "the runs part at" in said


def test_recordings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_STEPS", 50)

    def run() -> None:
        for _ in range(1_000):
            pass

    assert len(recorded(run).steps) == 50


def test_an_error_is_the_same_and_says_so_if_nothing_is_found() -> None:
    runs: list[None] = []
    count = runs.append

    def again() -> None:
        count(None)
        raise SimError("it ends early, each time")

    error = named(Divergence("They differ."), again)
    assert str(error).startswith(f"They differ. It was run {TIMES} times more, line by line, and no line ")
    assert len(runs) == TIMES


def test_memory_is_handed_out_otherwise_from_run_to_run() -> None:
    def places(number: int) -> list[int]:
        held = culprit.disturb(number)
        things = [Point(n) for n in range(8)]
        order = sorted(range(8), key=lambda n: id(things[n]) >> 4 & 7)
        del held
        return order

    assert len({tuple(places(number)) for number in range(20)}) > 1
