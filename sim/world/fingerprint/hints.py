"""How the objects of type hints are written by the walk: generic aliases, unions, type variables.

Up to Python 3.11 type variables are instances of Python's classes, and are written as such. What is here is in C.

Rules for this file:

1. An alias or a union is what it was made of. What it works out of that and keeps (`__parameters__`) is left out.
2. A type variable in C works out its bound when that is asked for, by a function of the application (PEP 695). So it is
   not asked. It is written as what it refers to, in order: the function, or the bound, or both. Python shows that to its
   garbage collector (`gc.get_referents`).
"""

from __future__ import annotations

import gc
import operator
import types as python
import typing
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.plain import head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk

_VARIABLE = head("type variable")
_FLAGS = ("__covariant__", "__contravariant__", "__infer_variance__")


def _made_of(cls: Any, *names: str) -> Handler:
    """What is told by the descriptors of its own type of these names, if it has them."""
    getters = [vars(cls)[name].__get__ for name in names if name in vars(cls)]

    def write(_walk: Walk, value: Any) -> Iterable[Any]:
        return (type(value), *[get(value) for get in getters])

    return write


def _variable(cls: type) -> Handler:
    """Rule 2."""
    tell = operator.attrgetter("__name__", *(name for name in _FLAGS if name in vars(cls)))

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        told = tell(value)
        referents = [referent for referent in gc.get_referents(value) if referent is not cls]
        walk.write(_VARIABLE)
        return (cls, told, len(referents), *referents)

    return write


HANDLERS: dict[type, Handler] = {
    python.GenericAlias: _made_of(python.GenericAlias, "__origin__", "__args__", "__unpacked__"),
    python.UnionType: _made_of(python.UnionType, "__args__"),
}
"""By type. Only the first may be derived from."""

for _name in ("TypeVar", "ParamSpec", "TypeVarTuple", "TypeAliasType"):
    _cls = getattr(typing, _name, None)
    if isinstance(_cls, type) and type(vars(_cls).get("__name__")) is python.MemberDescriptorType:
        HANDLERS[_cls] = _variable(_cls)
for _name in ("ParamSpecArgs", "ParamSpecKwargs"):
    _cls = getattr(typing, _name)
    if type(vars(_cls).get("__origin__")) is python.MemberDescriptorType:
        HANDLERS[_cls] = _made_of(_cls, "__origin__")
