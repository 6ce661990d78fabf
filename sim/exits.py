"""How the command ends: errors become one message on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sim.errors import SimError

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = """\b
Exit codes:
  0    no violation
  1    a violation
  2    the question cannot be asked like that: an unknown name, a bad value,
       an application that fails to import, a server that does not start
  3    the answer cannot be trusted: a divergence, or an internal error
  130  interrupted
"""


READER_GONE = 128 + signal.SIGPIPE
"""What a shell says of a program whose reader went away."""


class Cli(click.Group):
    """A group whose errors are messages and exit codes."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> Any:
        """Run the command and exit with its code."""
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name or "asgi-sim", **extra)
        except click.exceptions.NoArgsIsHelpError as exc:
            exc.show()
            code = exc.exit_code
        except click.UsageError as exc:
            context = exc.ctx
            if context is not None:
                click.echo(context.get_usage(), err=True)
            help_line = f" For help: {context.command_path} --help" if context is not None else ""
            complain(exc.format_message() + help_line)
            code = exc.exit_code
        except click.ClickException as exc:
            complain(exc.format_message())
            code = exc.exit_code
        except (click.Abort, KeyboardInterrupt):
            complain("interrupted")
            code = 130
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; what goes wrong becomes a message."""
        try:
            return super().invoke(ctx)
        except SimError as exc:
            if ctx.params.get("debug"):
                traceback.print_exc()
            complain(str(exc))
            return exc.exit_code
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it once more when it ends
            return READER_GONE
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as exc:
            if ctx.params.get("debug"):
                traceback.print_exc()
            where = traceback.extract_tb(exc.__traceback__)[-1]
            complain(
                f"internal error: {type(exc).__name__}: {exc} (at {Path(where.filename).name}:{where.lineno}). It is a "
                "bug in asgi-sim, or in a scenario. For the traceback: asgi-sim --debug, or ASGI_SIM_DEBUG=1."
            )
            return 3


def complain(message: str) -> None:
    """Say something on standard error."""
    click.echo(f"asgi-sim: {message}", err=True)
