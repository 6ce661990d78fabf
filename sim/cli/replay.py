"""`asgi-sim replay`: run one order again, in the simulator or on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sim.cli.output import print_bytes, print_page, say
from sim.errors import UsageError

if TYPE_CHECKING:
    from sim.search.runner import Run


@click.command("replay", short_help="Run one order again, in the simulator or on a real server.")
@click.argument("blob", nargs=-1, required=True)
@click.option(
    "--trace", is_flag=True, help="Print the whole trace as JSON lines, and nothing else, on standard output."
)
@click.option("--mermaid", is_flag=True, help="Print the sequence diagram in Mermaid's language, and nothing else.")
@click.option("--invariant", metavar="NAME", help="Which of the broken invariants to tell of. Default: the first.")
@click.option(
    "--any-version",
    is_flag=True,
    help="Try although Python, the server or a library is of another version than when the schedule was recorded.",
)
@click.option(
    "--real",
    metavar="REQ",
    help="Replay on the real server, a process on loopback, such as granian==1.3.2, in an "
    "environment that is made and cached for it.",
)
@click.option("--python", metavar="X", help="With --real: the Python to run it with, a version such as 3.10 or a path.")
def replay(
    blob: tuple[str, ...],
    trace: bool,
    mermaid: bool,
    invariant: str | None,
    any_version: bool,
    real: str | None,
    python: str | None,
) -> int:
    """Run the schedule BLOB again, which a check has printed: the same run, to the last byte.

    The exit code is 1 if the run violates an invariant, else 0. With --real it speaks of the real server: 1 if it
    violates the same invariants (confirmed), 0 if it does not (not reproduced).

    \b
    Examples:
      asgi-sim replay sim1.AbCd...
      asgi-sim replay sim1.AbCd... --trace > run.jsonl
      asgi-sim replay sim1.AbCd... --real granian==1.3.2 --python 3.10
    """
    from sim.search.explore import replay as play_again
    from sim.search.schedule import Schedule
    from sim.show.story import find_violation
    from sim.show.table import run_page

    if python is not None and real is None:
        raise UsageError("--python says what to run a real server with: it needs --real.")
    if trace and mermaid:
        raise UsageError("--trace and --mermaid both want standard output for themselves. Ask for one of them.")
    schedule = Schedule.from_blob("".join(blob))
    _, run = play_again(schedule, any_version=any_version, say=say)
    find_violation(run, invariant)
    if trace:
        print_bytes(run.trace.to_jsonl())
    elif mermaid:
        from sim.show.sequence import diagram

        print_bytes(diagram(run, invariant).to_mermaid())
    else:
        print_page(lambda width: run_page(schedule.scenario, schedule.server, run, invariant, width=width))
    if real is not None:
        return _on_real(run, real, python, invariant, quiet=trace or mermaid)
    return 1 if run.violations else 0


def _on_real(run: Run, requirement: str, python: str | None, invariant: str | None, *, quiet: bool) -> int:
    from sim.registry import find_confirm

    broken = [i for i, _ in run.violations if invariant in (None, i.name)]
    if not broken:
        raise UsageError("the run violates nothing, so there is nothing to confirm on a real server.")
    if "application" not in run.notes:
        raise UsageError("the scenario does not say which application it serves, so no real server can serve it.")
    confirmation = find_confirm()(
        run.trace,
        run.notes["application"],
        requirement=requirement,
        invariants=broken,
        python=python,
        say=say,
    )
    click.echo(confirmation.describe(), err=quiet)
    return 1 if confirmation.confirmed else 0
