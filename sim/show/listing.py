"""What there is: scenarios with what they claim, and servers."""

from __future__ import annotations

from rich.text import Text

from sim.errors import UsageError
from sim.registry import find_scenario, find_subject, scenario_names, subject_names


def listing() -> tuple[Text, int]:
    """Everything, as text; and an exit code: not 0 if something that is installed cannot be loaded."""
    text = Text()
    code = 0
    named: dict[str, list[str]] = {}
    text.append("Scenarios\n", "bold")
    for name in scenario_names():
        try:
            scenario = find_scenario(name)
        except UsageError as exc:
            text.append(f"\n  {name}", "bold").append(f"  cannot be loaded: {exc}\n", "red")
            code = exc.exit_code
            continue
        text.append(f"\n  {name}", "bold cyan").append(f"  {scenario.summary}\n")
        for param in scenario.params:
            values = f" (one of {', '.join(map(str, param.options))})" if param.options else ""
            text.append(f"    --param {param.name}={param.default}").append(f"  {param.help}{values}\n", "dim")
        for invariant in scenario.invariants:
            text.append(f"    {invariant.name}").append(f"  {invariant.quantifier}: {invariant.claim}\n", "dim")
        for server in scenario.servers:
            named.setdefault(server.partition("[")[0].partition("=")[0], []).append(server)
    text.append("\nServers\n\n", "bold")
    for name in subject_names():
        text.append(f"  {name}", "bold cyan")
        requirements = list(dict.fromkeys(named.get(name, [])))
        try:
            subject = find_subject(requirements[0] if requirements else name)
        except UsageError as exc:
            text.append(f"  cannot be loaded: {exc}\n", "red")
            continue
        versions = ", ".join(f"{n} {v}" for n, v in subject.versions.items())
        kind = f"{subject.kind} server, {versions}" if versions else subject.kind
        text.append(f"  {kind}\n", "dim")
        for requirement in requirements or [name]:
            text.append(f"    {requirement}\n")
    text.right_crop(1)
    return text, code
