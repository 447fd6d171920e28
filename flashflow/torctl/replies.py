"""Builds replies of the control protocol's server side (control-spec 2.3)."""

from collections.abc import Sequence


def reply(code: int, *lines: str) -> bytes:
    """One reply of the lines given, all with `code`; the last one ends it."""
    middle = b"".join(f"{code}-{line}\r\n".encode("ascii") for line in lines[:-1])
    return middle + f"{code} {lines[-1]}\r\n".encode("ascii")


def ok(lines: Sequence[str] = ()) -> bytes:
    """A reply of these lines and `250 OK`."""
    return reply(250, *lines, "OK")


def quoted(text: str) -> str:
    """A QuotedString."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
