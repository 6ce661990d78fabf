"""Programs in processes of their own, under several seeds of Python's hashes."""

from __future__ import annotations

import os
import subprocess
import sys

SEEDS = ("1", "2", "3")


def said_under_each(program: str) -> set[str]:
    """What a program prints under each seed: one text, if it does not depend on the seed."""
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        for seed in SEEDS
    }
