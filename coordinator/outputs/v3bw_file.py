"""Puts a v3bw file where an authority's tor reads it: whole or not at all, and on disk."""

import contextlib
import glob
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from flashflow.model.errors import LocalError

MAX_FILES_A_SECOND = 1000
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?")


def publish(text: str, link: Path, now_utc_s: float) -> Path:
    """Write `text` to a new file `LINK.<UTC time>` and point the symbolic link `link` to it; give the file.

    A second file within the same second gets `.1`, `.2` … behind its name: no file is ever replaced, and whoever
    opens `link` at any moment finds a whole file. Readable by all: tor runs as another user. Raises LocalError.
    """
    try:
        if link.exists() and not link.is_symlink():
            raise LocalError(
                f"{link}: expected a symbolic link or nothing, found something else; it is left as it is"
            )
        file = _new_file(text, link, now_utc_s)
        _point(link, file)
    except OSError as error:
        raise LocalError(f"{link}: cannot publish the v3bw file: {error.strerror or error}") from error
    return file


def remove_older(link: Path, before_utc_s: float) -> None:
    """Remove the files `LINK.<UTC time>` of before that time, but the one that `link` points to. Raises LocalError."""
    before = _stamp(before_utc_s)
    try:
        newest = link.resolve()
        for file in link.parent.glob(f"{glob.escape(link.name)}.*"):
            found = _STAMPED.fullmatch(file.name.removeprefix(f"{link.name}."))
            if found and found[1] < before and file.resolve() != newest:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise LocalError(f"{link}: cannot remove old v3bw files: {error.strerror or error}") from error


def _stamp(utc_s: float) -> str:
    return datetime.fromtimestamp(int(utc_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _new_file(text: str, link: Path, now_utc_s: float) -> Path:
    part = link.with_name(f".{link.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)  # of a process that was killed, with this one's id
    try:
        with part.open("xb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text.encode("ascii"))
            stream.flush()
            os.fsync(stream.fileno())
        return _name(part, link, now_utc_s)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _name(part: Path, link: Path, now_utc_s: float) -> Path:
    """Give the finished file its name; a rename would replace a file of the same second, a hard link does not."""
    stamp = _stamp(now_utc_s)
    for number in range(MAX_FILES_A_SECOND):
        file = link.with_name(f"{link.name}.{stamp}" + (f".{number}" if number else ""))
        try:
            os.link(part, file)
        except FileExistsError:
            continue
        return file
    raise LocalError(f"{link}: {MAX_FILES_A_SECOND} v3bw files of the same second exist already")


def _point(link: Path, file: Path) -> None:
    new = link.with_name(f".{link.name}.{os.getpid()}.link")
    new.unlink(missing_ok=True)
    new.symlink_to(file.name)
    new.replace(link)
    folder = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
