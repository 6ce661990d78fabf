"""Code objects: what tells one from another, and which variables of its module it uses."""

from __future__ import annotations

import types as python
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.world.fingerprint.walk import Walk


def names_of(code: Any) -> Iterator[str]:
    """The global names and attributes that a code object and those inside it use.

    No program has a name with an at sign: where pytest has rewritten assertions, that is pytest, and leads everywhere.
    """
    yield from (name for name in code.co_names if not name.startswith("@"))
    for constant in code.co_consts:
        if type(constant) is python.CodeType:
            yield from names_of(constant)


def text_of_code(code: Any) -> str:
    """What tells a code object from others, the same in each process: two lambdas of one line have two texts."""
    parts = (
        code.co_code,
        code.co_linetable,
        code.co_flags,
        code.co_names,
        code.co_varnames,
        code.co_cellvars,
        code.co_freevars,
        *map(_constant, code.co_consts),
    )
    digest = blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"code {code.co_filename}:{code.co_firstlineno}:{code.co_name}:{digest}"


def _constant(value: Any) -> Any:
    """A constant of a code object, as text or a tuple; the order of a set is that of one process."""
    if type(value) is python.CodeType:
        return text_of_code(value)
    if type(value) is tuple:
        return tuple(map(_constant, value))
    if type(value) is frozenset:
        return sorted(map(repr, map(_constant, value)))
    return f"{type(value).__name__} {value!r}"


def used(walk: Walk, names: tuple[str, ...], variables: dict[str, Any]) -> list[Any]:
    """The module variables that a code object uses, where they are not constant, by the names that are in it."""
    parts: list[Any] = []
    for name in names:
        if name not in variables:
            continue
        found = variables[name]
        parts += (name, found)
        if type(found) is python.ModuleType and not walk.types.is_constant(found.__name__):
            inside = vars(found)
            parts += (part for other in names if other in inside for part in (other, inside[other]))
    return [len(parts), *parts] if names else parts
