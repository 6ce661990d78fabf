"""Events and traces: what is recorded, how it reads, and that the same run gives the same bytes."""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.world.clock import Clock
from sim.world.trace import Event, Trace, jsonable, without_addresses


@attrs.define(slots=True)
class Said(Event):
    kind: ClassVar[str] = "app.said"
    words: Any
    loud: bool = False


@attrs.define(slots=True)
class Thought(Event):
    kind: ClassVar[str] = "app.thought"
    observable: ClassVar[bool] = False
    words: str

    def describe(self) -> str:
        return f"thinks {self.words}"


def test_events_are_numbered_and_timed() -> None:
    clock = Clock()
    trace = Trace(clock)
    one = trace.record(Said, "a", "x")
    clock.now = 1.5
    two = trace.record(Said, "b", "y", True)
    assert (one.seq, one.time, one.actor, one.words, one.loud) == (0, 0.0, "a", "x", False)
    assert (two.seq, two.time, two.actor, two.words, two.loud) == (1, 1.5, "b", "y", True)
    assert list(trace) == [one, two]
    assert len(trace) == 2


def test_the_cause_is_what_the_world_is_doing() -> None:
    trace = Trace(Clock())
    first = trace.record(Said, "a", "x")
    trace.cause = first.seq
    assert first.cause is None
    assert trace.record(Said, "b", "y").cause == 0


def test_a_closed_trace_records_nothing() -> None:
    trace = Trace(Clock())
    trace.record(Said, "a", "x")
    trace.open = False
    assert trace.record(Said, "a", "y").words == "y"
    assert [event.seq for event in trace] == [0]


def test_of_selects_types() -> None:
    trace = Trace(Clock())
    said, thought = trace.record(Said, "a", "x"), trace.record(Thought, "a", "y")
    assert list(trace.of(Said)) == [said]
    assert list(trace.of(Thought)) == [thought]
    assert list(trace.of(Said, Thought)) == [said, thought]
    assert list(trace.of(Event)) == [said, thought]


def test_fields_leave_out_what_every_event_has() -> None:
    assert Trace(Clock()).record(Said, "a", "x", True).fields() == {"words": "x", "loud": True}


def test_an_event_reads_as_a_line() -> None:
    trace = Trace(Clock(1.25))
    assert str(trace.record(Thought, "a", "deep")) == "    1.250000  a              thinks deep"
    assert trace.record(Said, "a", "x").describe() == "app.said words='x' loud=False"


def test_a_line_of_json() -> None:
    trace = Trace(Clock(0.1 + 0.2))
    trace.record(Said, "a", b"\xff\x00", True)
    trace.cause = 0
    trace.record(Thought, "b", "x")
    assert trace.to_jsonl() == (
        '{"seq":0,"t":0.3,"event":"app.said","actor":"a","words":"ÿ\\u0000","loud":true}\n'
        '{"seq":1,"t":0.3,"event":"app.thought","actor":"b","cause":0,"words":"x"}\n'
    )


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("x", "x"),
        (b"\xe9", "é"),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        ((1, (b"a",)), [1, ["a"]]),
        ([{"k": (1,)}], [{"k": [1]}]),
        ({b"key": 1, 2: 3, None: 4}, {"key": 1, "2": 3, "None": 4}),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1, "a", b"b"}, ["a", "b", 1]),
        (math.inf, "inf"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_jsonable(value: object, expected: object) -> None:
    assert jsonable(value) == expected
    json.loads(json.dumps(jsonable(value), allow_nan=False))


def test_an_address_is_no_part_of_a_trace() -> None:
    assert "0x" in repr(Opaque())
    assert jsonable(Opaque()) == f"<{__name__}.Opaque object>"
    assert jsonable([Opaque()]) == jsonable([Opaque()])
    assert without_addresses("<a at 0x7f00> and <b at 0xBEEF>") == "<a> and <b>"
    assert without_addresses("at 0 x 1") == "at 0 x 1"


def test_lone_surrogates_survive_as_json_escapes() -> None:
    trace = Trace(Clock())
    trace.record(Said, "a", "\udcff and é")
    line = trace.to_jsonl()
    line.encode()
    assert json.loads(line)["words"] == "\udcff and é"


def test_characters_that_end_a_line_elsewhere_are_escaped() -> None:
    trace = Trace(Clock())
    trace.record(Said, "a", "a\x85b\u2028c\u2029d\ne")
    (line,) = trace.to_jsonl().splitlines()
    assert json.loads(line)["words"] == "a\x85b\u2028c\u2029d\ne"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda deeper: st.lists(deeper) | st.tuples(deeper) | st.dictionaries(st.text() | st.binary(), deeper),
    max_leaves=10,
)


@given(json_values)
def test_whatever_is_recorded_becomes_one_line_of_strict_json(value: Any) -> None:
    trace = Trace(Clock())
    trace.record(Said, "a", value)
    text = trace.to_jsonl()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    json.loads(text.encode(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_an_outcome_has_no_times_and_no_interleaving() -> None:
    def outcome(*said: tuple[str, str], at: float = 0.0) -> tuple[object, ...]:
        trace = Trace(Clock(at))
        for actor, words in said:
            trace.record(Said, actor, words)
            trace.cause = trace.record(Thought, actor, words).seq
        return trace.outcome()

    assert outcome(("a", "1"), ("b", "2"), ("a", "3")) == outcome(("b", "2"), ("a", "1"), ("a", "3"), at=5.0)
    assert outcome(("a", "1"), ("a", "3")) != outcome(("a", "3"), ("a", "1"))
    assert outcome(("a", "1")) != outcome(("b", "1"))


def test_only_what_is_observable_belongs_to_the_outcome() -> None:
    trace = Trace(Clock())
    trace.record(Thought, "a", "x")
    assert trace.outcome() == ()
    trace.record(Said, "a", "x")
    assert trace.outcome() == (("a", (("app.said", "x", False),)),)


@attrs.define(slots=True)
class Served(Said):
    kind: ClassVar[str] = "app.served"
    numbered: ClassVar[bool] = True


def test_which_of_several_alike_began_first_is_no_part_of_an_outcome() -> None:
    def outcome(*said: tuple[str, str]) -> tuple[object, ...]:
        trace = Trace(Clock())
        for actor, words in said:
            trace.record(Served, actor, words)
        return trace.outcome()

    one = outcome(("call 1", "a"), ("call 2", "b"), ("call 1", "c"))
    assert one == outcome(("call 1", "b"), ("call 2", "a"), ("call 2", "c"))
    assert one != outcome(("call 1", "a"), ("call 1", "b"), ("call 2", "c"))
    assert one != outcome(("task 1", "a"), ("call 2", "b"), ("task 1", "c"))
    assert len(one) == 2
