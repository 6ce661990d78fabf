"""Sequence diagrams in Mermaid's language.

Whatever Mermaid could take for syntax goes out as a character code (`#35;`), which it shows as the character. Rule:
letters, digits, blanks and a few harmless signs stay; everything else is coded, so no text of a program under test can
end a line, open a comment, or begin a directive. The word "end" closes blocks wherever it stands, so it is coded too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sim.show.reading import plain, span

if TYPE_CHECKING:
    from sim.show.sequence import Diagram

HARMLESS = frozenset(" .,()'=+*/_-[]…")


def write(diagram: Diagram) -> str:
    """The diagram as `sequenceDiagram`."""
    names = {name: f"p{number}" for number, name in enumerate(diagram.lifelines)}
    lines = ["sequenceDiagram", *(f"    participant {p} as {escape(name)}" for name, p in names.items())]
    before = ""
    for row in diagram.rows:
        time = span(row.time)
        if time != before and names:
            over = ",".join(dict.fromkeys((next(iter(names.values())), list(names.values())[-1])))
            lines.append(f"    Note over {over}: {escape(time)}")
        before = time
        label = escape(row.label + (" ✗" if row.broken else ""))
        if row.kind == "gap":
            lines.append(f"    Note over {next(iter(names.values()))}: … {label} …")
        elif row.kind == "note":
            lines.append(f"    Note over {names[row.source]}: {label}")
        elif row.kind == "leaves":
            lines.append(f"    Note over {names[row.source]},{names[row.target]}: {label} leaves {escape(row.source)}")
        else:
            arrow = "-x" if row.broken else "-->>" if row.dashed else "->>"
            lines.append(f"    {names[row.source]}{arrow}{names[row.target]}: {label}")
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` with everything coded that Mermaid could take for syntax."""
    coded = "".join(c if c.isalnum() or c in HARMLESS else f"#{ord(c)};" for c in plain(text))
    return re.sub(r"\bend\b", lambda found: f"#{ord(found[0][0])};{found[0][1:]}", coded, flags=re.IGNORECASE)
