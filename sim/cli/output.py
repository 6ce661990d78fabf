"""Where the command's words go: the result to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

WIDTH = 100
"""Columns, where there is no terminal."""


def print_page(page: Callable[[int], Iterable[RenderableType]]) -> None:
    """Print what `page` makes for a width, with colours if standard output takes them."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    with console.capture() as captured:
        for part in page(console.width):
            console.print(part, soft_wrap=True)
    click.echo(captured.get(), nl=False, color=True)


def print_bytes(text: str) -> None:
    """Text to standard output, the same bytes wherever it goes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Say what is going on."""
    click.echo(text, err=True)
