"""What the program's own lines do in a run, step by step, so that two runs of one schedule can be compared.

Theory of operation
===================

While a recorder is on, Python tells it of each call and of each line of the program's own code (`sys.settrace`, which
all Pythons from 3.10 on have). It writes down *steps*:

| step | when | what of it can differ |
| --- | --- | --- |
| line | a line of the program's is about to run | where; its locals that have changed; outer names that it reads |
| return | one of its functions returns or yields | the value |
| call | it calls a function of somebody else's | the arguments |
| event | the world records an event | the event |
| choice | the world asks for a choice | the width |

Each step knows which line is at fault if its values are the first that differ: the line that ran before, in the same
function, if a local has changed; the line itself, if it reads a global or a closure's variable; the caller's line.

Rules for this file:

1. The program is looked at, never called: values are told by `sim.search.values`.
2. No frame is kept: what a program sees of the lifetimes of its objects stays as it is.
3. A recorder costs some ten times the run, and so is on only when a divergence is known.
"""

from __future__ import annotations

import dis
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from sim.search.suspects import Suspects
from sim.search.values import told
from sim.world.blame import OWN, edges, rank
from sim.world.choices import Choices
from sim.world.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

MOST_STEPS = 200_000
"""Steps that are kept of a run."""


class Place(NamedTuple):
    """A line of a file."""

    filename: str
    line: int


class Step(NamedTuple):
    """See the module's table.

    Attributes:
        kind: one of the table's.
        where: the line, for a line; the function or event by name else.
        values: by name, in words.
        outer: which of them are of outer names.
        before: the line at fault if a value differs, or if the next step is another one. None: not known.
    """

    kind: str
    where: object
    values: dict[str, str]
    outer: frozenset[str]
    before: Place | None


class Recording(NamedTuple):
    """What was written down of a run; it pickles.

    Attributes:
        steps: in order.
        suspects: what is suspected of each line, if it is suspected of anything.
    """

    steps: list[Step]
    suspects: dict[Place, list[str]]


_NONE: frozenset[str] = frozenset()


class Lines:
    """A recorder of one run, as a context manager around it.

    Attributes:
        steps: what it has written down.
        suspects: what is suspected of each line, once it ran.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.suspects: dict[Place, Suspects] = {}
        self._own: dict[str, bool] = {}
        self._reads: dict[CodeType, dict[int, tuple[str, ...]]] = {}
        self._before: Any = None

    def __enter__(self) -> Lines:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)

    def recording(self) -> Recording:
        """What was written down so far."""
        return Recording(self.steps, {place: found.known for place, found in self.suspects.items() if found.known})

    def _called(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        """Any function is called, or a coroutine resumed."""
        if len(self.steps) >= MOST_STEPS:
            return None
        code = frame.f_code
        if self._is_own(code.co_filename):
            return _Function(self, frame)
        if code is _RECORD:
            self._recorded(frame)
        elif code is _CHOOSE:
            self._add(
                "choice", "a choice", {"its possibilities": told(frame.f_locals["width"])}, _NONE, self._line_of(frame)
            )
        else:
            caller = frame.f_back
            if caller is not None and self._is_own(caller.f_code.co_filename):
                at = Place(caller.f_code.co_filename, caller.f_lineno)
                self._add("call", code.co_name, _arguments(frame), _NONE, at)
        return None

    def _recorded(self, frame: FrameType) -> None:
        names = frame.f_locals
        kind = names["kind"]
        values = {"actor": str(names["actor"]), **{str(n): told(v) for n, v in enumerate(names["fields"])}}
        self._add("event", kind.kind, values, _NONE, self._line_of(frame))

    def _line_of(self, frame: FrameType | None) -> Place | None:
        """The program's innermost own line in a stack."""
        while frame is not None and frame.f_code not in edges:
            if self._is_own(frame.f_code.co_filename):
                return Place(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return None

    def _is_own(self, filename: str) -> bool:
        own = self._own.get(filename)
        if own is None:
            own = self._own[filename] = rank(filename) == OWN and not filename.startswith("<")
        return own

    def _add(
        self, kind: str, where: object, values: dict[str, str], outer: frozenset[str], before: Place | None
    ) -> None:
        self.steps.append(Step(kind, where, values, outer, before))

    def line(self, function: _Function, frame: FrameType) -> None:
        """A line of the program's is about to run."""
        here = Place(frame.f_code.co_filename, frame.f_lineno)
        names = dict(frame.f_locals)
        values = function.changed({n: v for n, v in names.items() if n not in frame.f_code.co_freevars})
        outer = self._outer(frame, names)
        values.update(outer)
        self._add("line", here, values, frozenset(outer), function.before)
        suspects = self.suspects.get(here)
        if suspects is None:
            suspects = self.suspects[here] = Suspects(*here)
        suspects.look(names, frame.f_globals)
        function.before = here

    def returned(self, function: _Function, frame: FrameType, value: object) -> None:
        """A function of the program's returns, yields or raises."""
        at = function.before or Place(frame.f_code.co_filename, frame.f_lineno)
        self._add("return", frame.f_code.co_name, {"what it returns": told(value)}, _NONE, at)

    def _outer(self, frame: FrameType, names: dict[str, Any]) -> dict[str, str]:
        """The globals and closures' variables that the line reads, in words."""
        code = frame.f_code
        reads = self._reads.get(code)
        if reads is None:
            reads = self._reads[code] = _read_by(code)
        found: dict[str, str] = {}
        for name in reads.get(frame.f_lineno, ()):
            source = names if name in code.co_freevars else frame.f_globals
            if name in source:
                found[name] = told(source[name])
        return found


class _Function:
    """One call of a function of the program's, or one stretch of a coroutine: what Python tells of its lines."""

    __slots__ = ("_lines", "_shown", "before")

    def __init__(self, lines: Lines, frame: FrameType) -> None:
        self._lines = lines
        self._shown: dict[str, str] = {}
        resumed = frame.f_lineno != frame.f_code.co_firstlineno
        self.before = Place(frame.f_code.co_filename, frame.f_lineno) if resumed else lines._line_of(frame.f_back)

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        lines = self._lines
        if len(lines.steps) >= MOST_STEPS:
            return None
        if event == "line":
            lines.line(self, frame)
        elif event == "return":
            lines.returned(self, frame, arg)
        return self

    def changed(self, names: dict[str, Any]) -> dict[str, str]:
        """Those locals whose values are new, in words."""
        texts = {name: told(value) for name, value in names.items()}
        shown, self._shown = self._shown, texts
        return {name: text for name, text in texts.items() if shown.get(name) != text}


def _arguments(frame: FrameType) -> dict[str, str]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    names = frame.f_locals
    return {name: told(names[name]) for name in code.co_varnames[:count] if name in names}


def _read_by(code: CodeType) -> dict[int, tuple[str, ...]]:
    """By line: the globals and closures' variables that it reads."""
    starts = dict(dis.findlinestarts(code))
    found: dict[int, set[str]] = {}
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        line = starts.get(instruction.offset) or line
        outer = instruction.opname in _GLOBAL or (
            instruction.opname in _CLOSURE and instruction.argval in code.co_freevars
        )
        if outer:
            found.setdefault(line, set()).add(instruction.argval)
    return {line: tuple(sorted(names)) for line, names in found.items()}


_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME"}
_CLOSURE = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_RECORD = Trace.record.__code__
_CHOOSE = Choices.choose.__code__
