"""What a line of a program does that can differ from run to run, as far as its source and its names tell.

The source gives the expressions (what is iterated over, what is called), the frame that runs the line gives their
values: whether it is a set, whether the function is a clock. Names are looked up without calling anything.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import types
from typing import TYPE_CHECKING, Any

from sim.world.boundary import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SET = "it depends on the order of a set, which differs from run to run if hashes do; sort it"
_ASKS = {
    "id": "it asks for id(), which is an address and differs from run to run",
    "hash": "it asks for hash(), which differs from run to run for objects without a __hash__ of their own, and from "
    "process to process for text",
}
_IN_ORDER = {
    "list",
    "tuple",
    "iter",
    "enumerate",
    "next",
    "zip",
    "map",
    "filter",
    "join",
    "extend",
    "min",
    "max",
    "gather",
}
"""Functions and methods whose result depends on the order in which an argument gives its members."""
_CLOCKS = {"time"}
_ENTROPY = {"posix", "_random", "random", "secrets", "uuid", "_uuid"}
_NOTHING = object()

_trees: dict[str, tuple[ast.stmt, ...]] = {}


def expressions(filename: str, line: int) -> tuple[ast.expr, ...]:
    """The outermost expressions of the statement at a line, without the statements inside it."""
    statement: ast.stmt | None = None
    for candidate in _statements(filename):
        inside = candidate.lineno <= line <= (candidate.end_lineno or candidate.lineno)
        if inside and (statement is None or candidate.lineno >= statement.lineno):
            statement = candidate
    if statement is None:
        return ()
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            found.append(child)
        elif isinstance(child, ast.withitem):
            found.append(child.context_expr)
    return tuple(found)


def _statements(filename: str) -> tuple[ast.stmt, ...]:
    if filename not in _trees:
        try:
            tree = ast.parse("".join(linecache.getlines(filename)))
        except (SyntaxError, ValueError):
            tree = ast.Module([], [])
        _trees[filename] = tuple(node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    return _trees[filename]


class Suspects:
    """Those of one line.

    Attributes:
        known: what is suspected of it so far, in words, the surest first.
    """

    def __init__(self, filename: str, line: int) -> None:
        self.known: list[str] = []
        self._iterated: list[ast.expr] = []
        self._called: list[ast.expr] = []
        for expression in expressions(filename, line):
            for node in ast.walk(expression):
                self._read(node)
        statement = next((s for s in _statements(filename) if s.lineno == line), None)
        if isinstance(statement, (ast.For, ast.AsyncFor)):
            self._iterated.append(statement.iter)

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.comprehension):
            self._iterated.append(node.iter)
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            self._iterated += [generator.iter for generator in node.generators]
        elif isinstance(node, ast.Starred):
            self._iterated.append(node.value)
        elif isinstance(node, ast.Call):
            self._called.append(node.func)
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _IN_ORDER:
                self._iterated += node.args
            if isinstance(node.func, ast.Attribute) and name == "pop" and not node.args:
                self._iterated.append(node.func.value)
            if name in _ASKS and isinstance(node.func, ast.Name):
                self._suspect(_ASKS[name])

    def look(self, names: Mapping[str, Any], outside: Mapping[str, Any]) -> None:
        """Look what the line's names stand for, now that it is about to run.

        Args:
            names: the frame's own.
            outside: its module's.
        """
        for node in self._iterated[:]:
            if _is_set(node, names, outside):
                self._iterated.remove(node)
                self._suspect(SET)
        for node in self._called[:]:
            value = _value(node, names, outside)
            if value is not _NOTHING:
                self._called.remove(node)
                said = _compiled(ast.unparse(node), value)
                if said is not None:
                    self._suspect(said)

    def _suspect(self, said: str) -> None:
        if said not in self.known:
            self.known.append(said)


def _is_set(node: ast.expr, names: Mapping[str, Any], outside: Mapping[str, Any]) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
        return _is_set(node.left, names, outside)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in ("set", "frozenset")
        return (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in ("copy", "union", "difference", "intersection", "symmetric_difference")
            and _is_set(node.func.value, names, outside)
        )
    value = _value(node, names, outside)
    return value is not _NOTHING and issubclass(type(value), (set, frozenset))


def _value(node: ast.expr, names: Mapping[str, Any], outside: Mapping[str, Any]) -> Any:
    """What a name, an attribute, or a member under a constant is; nothing of the program is called."""
    if isinstance(node, ast.Name):
        return names.get(node.id, outside.get(node.id, _NOTHING))
    if isinstance(node, ast.Attribute):
        holder = _value(node.value, names, outside)
        if holder is _NOTHING:
            return _NOTHING
        found = inspect.getattr_static(holder, node.attr, _NOTHING)
        if isinstance(found, types.MemberDescriptorType):
            try:
                return found.__get__(holder, type(holder))
            except (AttributeError, TypeError):
                return _NOTHING
        return found.__func__ if isinstance(found, staticmethod) else found
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        holder, key = _value(node.value, names, outside), node.slice.value
        if type(holder) is dict or (type(holder) in (list, tuple) and type(key) is int):
            try:
                return holder[key]
            except LookupError:
                pass
    return _NOTHING


def _compiled(name: str, value: object) -> str | None:
    """What can be wrong with calling `value`: it is compiled, and not what the world has put in its place."""
    if type(value) is Dispatcher or not isinstance(value, (types.BuiltinFunctionType, type)):
        return None
    module = value.__module__
    if isinstance(module, str) and module in _CLOCKS:
        return f"{name} is a real clock, in a reference that the boundary does not see: ask for the time by its module"
    if isinstance(module, str) and module in _ENTROPY and (module != "random" or not isinstance(value, type)):
        return (
            f"{name} gives real entropy behind the boundary: use the random module's functions, os.urandom or secrets"
        )
    file = getattr(sys.modules.get(str(module)), "__file__", None) or ""
    if file.endswith((".so", ".pyd")):
        return f"{name} is compiled, and may read a real clock or real entropy where the boundary does not see it"
    return None


def addresses(*texts: str) -> Iterator[str]:
    """What is suspected of values that tell addresses."""
    if all("0x" in text for text in texts):
        yield "it tells the address of an object, as its repr() does"
