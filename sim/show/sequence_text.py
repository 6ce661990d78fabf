"""Sequence diagrams in box characters.

Each lifeline is a column; a row is a line of characters on which the lifelines are drawn first and the arrow or the
note over them.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import attrs

from sim.show.reading import plain, span

if TYPE_CHECKING:
    from sim.show.sequence import Diagram, Row

GUTTER = 9
"""Columns on the left for the time."""
WIDEST = 36
"""Columns between two lifelines, at most."""


def draw(diagram: Diagram, width: int) -> str:
    """The diagram, at most `width` columns wide."""
    names = diagram.lifelines
    if not names:
        return ""
    columns = _columns(diagram, width)
    lines = [_heads(names, columns, width)]
    before: str | None = None
    for row in diagram.rows:
        time = span(row.time)
        shown, before = "" if time == before else time, time
        drawn = _row(row, columns, width)
        _write(drawn[0], 0, f"{shown:>{GUTTER - 2}}")
        text = ["".join(canvas).rstrip() for canvas in drawn]
        lines += [text[0] + ("  ✗" if row.broken else ""), *text[1:]]
    return "\n".join(lines)


def _row(row: Row, columns: dict[str, int], width: int) -> list[list[str]]:
    """A row's lines: one, or more if a note is long."""
    canvas = _blank(list(columns.values()), width, "⋮" if row.kind == "gap" else "│")
    if row.kind == "gap":
        _write(canvas, min(columns.values()) + 3, plain(row.label))
    elif row.kind == "note":
        rest = _note(canvas, row, columns)
        if rest:
            return [canvas, *_row(attrs.evolve(row, label=" ".join(rest)), columns, width)]
    else:
        _arrow(canvas, row, columns)
    return [canvas]


def _columns(diagram: Diagram, width: int) -> dict[str, int]:
    """Where each lifeline is. The last leaves room for its name and for what is noted there."""
    names = diagram.lifelines
    first = GUTTER + max(len(names[0]) // 2, 1)
    last = width - max(len(names[-1]) // 2 + 1, 4) - 3
    step = min((last - first) // max(len(names) - 1, 1), WIDEST)
    return {name: first + step * i for i, name in enumerate(names)}


def _heads(names: tuple[str, ...], columns: dict[str, int], width: int) -> str:
    canvas = [" "] * width
    step = min((b - a for a, b in zip(list(columns.values()), list(columns.values())[1:], strict=False)), default=width)
    for name in names:
        shown = plain(name, max(step - 2, 3))
        _write(canvas, max(columns[name] - len(shown) // 2, 0), shown)
    return "".join(canvas).rstrip()


def _blank(columns: list[int], width: int, line: str) -> list[str]:
    canvas = [" "] * width
    for column in columns:
        canvas[column] = line
    return canvas


def _write(canvas: list[str], start: int, text: str) -> None:
    for offset, character in enumerate(text):
        if 0 <= start + offset < len(canvas):
            canvas[start + offset] = character


def _note(canvas: list[str], row: Row, columns: dict[str, int]) -> list[str]:
    """Beside the lifeline, on the side that has more room. Returns what did not fit."""
    column = columns[row.source]
    right, left = len(canvas) - column - 3, column - GUTTER - 3
    label = plain(row.label)
    if right >= min(len(label), left):
        text, *rest = textwrap.wrap(label, right) or [""]
        _write(canvas, column, "├")
        _write(canvas, column + 2, text)
        _clear_lifeline(canvas, column + 1, column + 2 + len(text))
    else:
        text, *rest = textwrap.wrap(label, left) or [""]
        _write(canvas, column - 2 - len(text), f" {text} ┤")
    return rest


def _clear_lifeline(canvas: list[str], start: int, stop: int) -> None:
    """Leave a blank where a note would touch the next lifeline."""
    for position in (start, stop):
        if position < len(canvas) and canvas[position] == "│" and position != start - 1:
            canvas[position] = " "


def _arrow(canvas: list[str], row: Row, columns: dict[str, int]) -> None:
    source, target = columns[row.source], columns[row.target]
    low, high = min(source, target) + 1, max(source, target) - 1
    before, label, after = _shaft(row, high - low + 1)
    if source > target:
        before, after = after[::-1].replace("▶", "◀"), before[::-1]
    canvas[low : high + 1] = before + label + after


def _shaft(row: Row, room: int) -> tuple[str, str, str]:
    """An arrow to the right in three parts, the middle one its label: all of it, or the half that has happened."""
    stroke = "╌" if row.dashed else "─"
    if row.kind == "arrow":
        label = f" {plain(row.label, room - 4)} "
        rest = room - len(label)
        return stroke * (rest // 2), label, stroke * (rest - rest // 2 - 1) + "▶"
    label = f" {plain(row.label, room - 8)} "
    half = max(room // 2 - len(label) - 2, 0)
    if row.kind == "leaves":
        after = stroke * half + "┄┄┄"
        return stroke * 2, label, after.ljust(room - len(label) - 2)
    before = "┄┄┄" + stroke * half
    return before.rjust(room - len(label) - 2), label, f"{stroke}▶"
