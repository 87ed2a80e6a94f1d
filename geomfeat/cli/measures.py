"""`geomfeat measures`: list the measures with their sources and needs."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from geomfeat.cli._app import app, command
from geomfeat.cli.options import Debug

if TYPE_CHECKING:
    from geomfeat.registry import Measure, Quantity

SCOPES = {
    "layer": "one layer",
    "pair": "two layers",
    "kernels": "two kernels",
    "network": "network before and after",
    "series": "network over time",
}
HEAD = ("measure", "of", "needs", "least n", "quantities and bounds", "source")


@app.command()
def measures(
    names: Annotated[list[str] | None, typer.Argument(help="Only these measures, with full documentation.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    debug: Debug = False,
) -> None:
    """List every measure with its scope, needs, bounds and source."""
    with command(debug):
        from geomfeat.registry import available, get

        chosen = [get(name) for name in names] if names else available()
        if markdown:
            typer.echo(markdown_table(chosen))
        elif names:
            typer.echo("\n\n".join(described(m) for m in chosen))
        else:
            typer.echo("\n".join(plain_table(chosen)))


def cells(m: Measure) -> tuple[str, ...]:
    """One row of the table: the facts of a measure as text, in the order of HEAD."""
    needs = ", ".join(sorted(m.needs)) or "–"
    quantities = ", ".join(f"{name} {bounds_text(q)}" for name, q in m.quantities.items())
    return m.name, SCOPES[m.scope], needs, str(m.min_samples), quantities, m.source


def bounds_text(quantity: Quantity) -> str:
    """The range of a quantity in interval notation.

    >>> from geomfeat.registry import Quantity
    >>> bounds_text(Quantity((0, math.inf))), bounds_text(Quantity((-1, 1)))
    ('[0, ∞)', '[-1, 1]')
    """
    low, high = quantity.bounds
    left = f"[{low:g}" if math.isfinite(low) else "(-∞"
    return f"{left}, {high:g}]" if math.isfinite(high) else f"{left}, ∞)"


def markdown_table(chosen: list[Measure] | None = None) -> str:
    """The table of these measures (default all) as Markdown, one row each, as docs/measures.md shows it."""
    from geomfeat.registry import available

    rows = [HEAD, tuple("---" for _ in HEAD), *(cells(m) for m in (available() if chosen is None else chosen))]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in rows)


def plain_table(chosen: list[Measure]) -> list[str]:
    """The table as lines of text: a line of facts for each measure, then its summary, quantities and source."""
    width = max(len(m.name) for m in chosen)
    lines = []
    for m in chosen:
        name, scope, needs, least, quantities, source = cells(m)
        lines.append(
            f"{name:{width}}  {scope}; needs {needs}; n >= {least}"
            if m.needs
            else f"{name:{width}}  {scope}; n >= {least}"
        )
        for text in (m.summary, quantities, f"source: {source}"):
            lines += textwrap.wrap(text, 110, initial_indent="    ", subsequent_indent="      ")
    return lines


def described(m: Measure) -> str:
    """All about one measure: its documentation, quantities, options and declared facts."""
    import inspect

    lines = [*plain_table([m])[:1], "", inspect.getdoc(m.function) or "", ""]
    for name, q in m.quantities.items():
        about = "; ".join(part for part in (bounds_text(q), q.unit, q.direction) if part)
        lines.append(f"{name}: {about}")
    lines.append(f"source: {m.source}")
    lines.append(f"does not change under: {', '.join(sorted(m.invariant_to)) or 'nothing declared'}")
    if m.options:
        lines.append("options: " + ", ".join(f"{k}={v!r}" for k, v in m.options.items()))
    return "\n".join(lines)
