"""The suite on every supported Python: `nox -f .ci/noxfile.py`."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
ROOT = Path(__file__).resolve().parent.parent


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the test suite."""
    session.chdir(ROOT)
    session.install("--quiet", "--editable", ".[test]")
    session.run(
        "python", "-m", "pytest", "--numprocesses", "2", "--dist", "worksteal", "-m", "not slow", *session.posargs
    )
