"""Tables: drawn by rich on a terminal, aligned plain text elsewhere. What is shown may come from outside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from flashflow.model.units import to_mbps


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns."""

    columns: tuple[str, ...]
    """Headings; one that ends in `>` is right-aligned (the mark is not shown)."""
    rows: Sequence[Sequence[str]]
    """Cells, as many in each row as there are columns."""
    empty: str = "none"
    """Shown in place of a table without rows."""


def print_table(table: Table, console: Console) -> None:
    """Show `table` on `console`."""
    if not table.rows:
        console.out(table.empty, highlight=False)
    elif console.is_terminal:
        console.print(_drawn(table))
    else:
        for line in plain_lines(table):
            console.out(line, highlight=False)


def plain_lines(table: Table) -> Iterator[str]:
    """`table` as aligned lines, headings first."""
    heads = [name.rstrip(">") for name in table.columns]
    cells = [heads, *([printable(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        padded = (
            cell.rjust(width) if name.endswith(">") else cell.ljust(width)
            for cell, width, name in zip(row, widths, table.columns, strict=True)
        )
        yield "  ".join(padded).rstrip()


def printable(text: str) -> str:
    """`text` without what could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def mbps_text(bytes_per_s: float | None, digits: int = 1) -> str:
    """A rate as Mbit/s, `-` for None."""
    return "-" if bytes_per_s is None else f"{to_mbps(bytes_per_s):.{digits}f}"


def utc_text(utc_s: float | None) -> str:
    """A time as `2026-11-21 23:58:18`, UTC; `-` for None. Raises ValueError for what is no time."""
    if utc_s is None:
        return "-"
    try:
        return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError):
        raise ValueError(f"not a time: {utc_s}") from None


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, header_style="bold")
    for name in table.columns:
        heading = name.rstrip(">")
        drawn.add_column(
            Text(heading),
            justify="right" if name.endswith(">") else "left",
            overflow="fold",
            min_width=max(map(len, heading.split())),
        )
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn
