"""Programs in processes of their own, under several seeds of Python's hashes."""

from __future__ import annotations

import os
import subprocess
import sys


def said_under(seeds: tuple[str, ...], program: str, *arguments: str) -> list[str]:
    """What a program prints under each seed."""
    return [
        subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
            timeout=240,
        ).stdout
        for seed in seeds
    ]


def said_under_each(program: str) -> set[str]:
    """The same under three seeds: one text, if it does not depend on the seed."""
    return set(said_under(("1", "2", "3"), program))
