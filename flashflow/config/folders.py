"""Directories that only their owner may read: they hold keys, cookies and results."""

from pathlib import Path

from flashflow.model.errors import LocalError


def make_private(folder: Path) -> None:
    """Make `folder` and what is missing above it, mode 0700; one that exists keeps its mode. Raises LocalError."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{folder}: cannot make the directory: {error.strerror}") from None
    if not folder.is_dir():
        raise LocalError(f"{folder}: expected a directory, found a file")
