"""Tokens: how values are written that consist of nothing but themselves, and what stands before that of things with parts.

Values are written as marshal writes them, which is fast, the same in each process, and begins with a letter of marshal's.
Heads begin with other letters, or stand for the same thing.
"""

from __future__ import annotations

import functools
import marshal
from hashlib import blake2b
from typing import Any

CANONICAL_MARSHAL = 2
"""From version 3 on, marshal writes shared objects as references, and so tells by identity what is equal."""
SINGLETONS: tuple[Any, ...] = (None, False, True, ..., (), b"", "", *range(-5, 257))
"""Values of which CPython holds one object each."""


MOST = 100_000
"""Heads for more things than this are made each time."""


class Absent:
    """What is written where there is nothing: for a slot that is not set, and at the end of what is not counted."""


ABSENT = Absent()


def plain(value: Any) -> bytes:
    """The text of a number, truth, text or bytes. No text is the beginning of another one."""
    return marshal.dumps(value, CANONICAL_MARSHAL)


class Heads(dict[int, bytes]):
    """What is written before so many things of one kind, by their number; made once each.

    Args:
        letter: what tells the kind.
    """

    __slots__ = ("_letter",)

    def __init__(self, letter: bytes) -> None:
        self._letter = letter

    def __missing__(self, number: int) -> bytes:
        made = self._letter + number.to_bytes(4, "big")
        if number < MOST:
            self[number] = made
        return made


TUPLE = Heads(b"(")
NUMBERS = Heads(b"#")
"""References to objects, by the number that each got when it was met."""


def head(kind: str) -> bytes:
    """What is written before a thing of a kind that always has the same parts."""
    return b"<" + kind.encode() + b">"


@functools.lru_cache(maxsize=4_096)
def label(text: str) -> bytes:
    """What stands for a long text, the same in each process."""
    return b"$" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
