"""Sequence diagrams: the order of the trace from top to bottom, within their width, and safe in every medium."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.asgi import AppReturned, AsgiReceive, AsgiReceived
from models.websocket import WsPong, WsText
from sim.show.mermaid import escape
from sim.show.sequence import LIFELINES, MAX_ROWS, Diagram, Row, diagram

from .showing import APP, CLIENT, SERVER, Tape, check_golden, pong_run


def test_pong_as_text() -> None:
    check_golden("sequence_pong.txt", f"{diagram(pong_run())}\n")


def test_pong_as_mermaid() -> None:
    check_golden("sequence_pong.mmd", diagram(pong_run()).to_mermaid())


def test_lifelines_are_hosts_then_servers_then_applications() -> None:
    assert diagram(pong_run()).lifelines == (CLIENT, SERVER, APP)


def test_a_segment_that_arrives_next_is_one_arrow_and_another_is_two_halves() -> None:
    tape = Tape()
    tape.opened()
    at_once = tape.client(WsPong, b"", "Pong")
    tape.deliver(at_once)
    slow = tape.client(WsText, "x", "text 'x'")
    tape.record(AsgiReceive, APP)
    between = tape.record(AsgiReceived, APP, {"type": "websocket.receive"})
    tape.deliver(slow)
    rows = [(r.kind, r.label) for r in diagram(tape.run()).rows]
    assert ("arrow", "Pong") in rows
    first, second = rows.index(("leaves", "text 'x'")), rows.index(("arrives", "text 'x'"))
    assert first < rows.index(("arrow", between.describe().partition(" ")[2])) < second


def test_a_segment_that_never_arrives_only_leaves() -> None:
    tape = Tape()
    tape.opened()
    tape.client(WsPong, b"", "Pong")
    assert [(r.kind, r.label) for r in diagram(tape.run()).rows][-1] == ("leaves", "Pong")


def test_a_servers_segment_is_called_what_its_reader_takes_it_for() -> None:
    labels = [r.label for r in diagram(pong_run()).rows if r.source == SERVER and r.target == CLIENT]
    assert labels[0] == "HTTP 101"
    assert "Close 1005" in labels
    assert not any("bytes" in label for label in labels)


def test_receive_has_an_arrow_only_if_the_application_waits() -> None:
    labels = [r.label for r in diagram(pong_run()).rows]
    assert labels.count("receive()") == 1


def test_marks_the_row_where_the_claim_breaks() -> None:
    (broken,) = [r for r in diagram(pong_run()).rows if r.broken]
    assert (broken.source, broken.target, broken.label) == (SERVER, APP, 'RuntimeError("ASGI flow error")')
    (line,) = [line for line in str(diagram(pong_run())).splitlines() if line.endswith("✗")]
    assert "RuntimeError" in line


def test_a_long_diagram_loses_its_middle() -> None:
    tape = Tape()
    tape.opened()
    for number in range(300):
        tape.deliver(tape.client(WsText, str(number), f"text '{number}'"))
    drawn = diagram(tape.run())
    assert len(drawn.rows) == MAX_ROWS
    (gap,) = [r for r in drawn.rows if r.kind == "gap"]
    assert gap.label == f"{300 + 5 - MAX_ROWS + 1:,} more"
    assert "⋮" in str(drawn)
    assert "more …" in drawn.to_mermaid()


def test_many_applications_are_cut_to_what_fits() -> None:
    tape = Tape()
    tape.opened()
    for number in range(2, 12):
        tape.record(AppReturned, f"websocket {number}")
    assert len(diagram(tape.run()).lifelines) == LIFELINES
    assert all(len(line) <= 96 for line in str(diagram(tape.run())).splitlines())


def test_nothing_to_draw() -> None:
    assert str(diagram(Tape().run())) == ""
    assert diagram(Tape().run()).to_mermaid() == "sequenceDiagram\n"


NAMES = ("client", "server", "websocket 1")
ROWS = st.builds(
    Row,
    st.floats(0, 1e5),
    st.sampled_from(["arrow", "leaves", "arrives"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.text(max_size=120),
    st.booleans(),
    st.booleans(),
).map(lambda row: attrs.evolve(row, kind="note") if row.source == row.target else row)


@given(st.lists(ROWS, max_size=8), st.integers(60, 120))
def test_text_stays_within_its_width_and_every_label_on_its_lines(rows: list[Row], width: int) -> None:
    text = Diagram(NAMES, tuple(rows)).to_text(width=width)
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= width + len("  ✗") for line in lines)


@given(st.lists(ROWS, max_size=8), st.lists(st.text(min_size=1), min_size=3, max_size=3, unique=True))
def test_mermaid_is_made_of_nothing_but_its_own_syntax(rows: list[Row], names: list[str]) -> None:
    renamed = dict(zip(NAMES, names, strict=True))
    rows = [attrs.evolve(r, source=renamed[r.source], target=renamed[r.target]) for r in rows]
    text = Diagram(tuple(names), tuple(rows)).to_mermaid()
    line = re.compile(r"sequenceDiagram|    (participant p\d as |Note over p\d(,p\d)?: |p\d(-x|-->>|->>)p\d: )[^\n]*")
    assert all(line.fullmatch(found) for found in text.removesuffix("\n").split("\n"))
    for found in text.split("\n"):
        said = re.sub(r"#\d+;", "", found.partition(": ")[2])
        assert not set(said) & set('#;<>{}"%`\\\n\r:&')
        assert not re.search(r"\bend\b", said, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("text 'hello'", "text 'hello'"),
        ("a;b", "a#59;b"),
        ("#35;", "#35;35#59;"),
        ("end", "#101;nd"),
        ("the END.", "the #69;ND."),
        ("%%{init: {}}%%", "#37;#37;#123;init#58; #123;#125;#125;#37;#37;"),
        ("<script>", "#60;script#62;"),
        ("two\nlines", "two#92;nlines"),
        ("✗", "#10007;"),
    ],
)
def test_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped
