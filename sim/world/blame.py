"""Whose line it was: which frame of a stack a person wants to see named."""

from __future__ import annotations

import linecache
import os
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

_ENGINE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_HOUSE = os.path.dirname(os.path.dirname(_ENGINE[:-1])) + os.sep
_STANDARD_LIBRARY = tuple({os.path.dirname(os.__file__) + os.sep, sysconfig.get_paths()["stdlib"] + os.sep, "<frozen "})
_INSTALLED = (
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    *(f"{_HOUSE}{room}{os.sep}" for room in ("sim", "models")),
)
OWN = 3
"""The rank of a program's own code."""

edges: set[CodeType] = set()
"""Functions of the engine behind which no frame is the program's: the caller of a run, not its cause."""


def edge(function: object) -> None:
    """Say that the stack behind `function` is none of the program's."""
    edges.add(function.__code__)  # type: ignore[attr-defined]


def blame(frame: FrameType | None) -> str:
    """`file:line: source` of the program's innermost own line in a stack.

    That is the innermost frame that belongs neither to the engine nor to the standard library nor to an installed
    distribution; if there is none, the innermost of a distribution, then of the standard library.
    """
    best: FrameType | None = None
    best_rank = 0
    while frame is not None and best_rank < OWN:
        found = rank(frame.f_code.co_filename)
        if found > best_rank:
            best, best_rank = frame, found
        if frame.f_code in edges:
            break
        frame = frame.f_back
    if best is None:
        return "a place that is not known"
    return place(best.f_code.co_filename, best.f_lineno)


def place(filename: str, line: int) -> str:
    """A line as messages name it: `file:line: source`, as far as the source is there."""
    source = linecache.getline(filename, line).strip()
    return f"{filename}:{line}: {source}" if source else f"{filename}:{line}"


def rank(filename: str) -> int:
    """How much a file is the program's own: 0 the engine, 1 the standard library, 2 what is installed, 3 (`OWN`)."""
    if filename.startswith(_ENGINE):
        return 0
    if any(part in filename for part in _INSTALLED):
        return 2
    return 1 if filename.startswith(_STANDARD_LIBRARY) else OWN
