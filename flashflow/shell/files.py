"""Private files and directories, and the lock that keeps a data directory to one process."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from flashflow.model.errors import LocalError


def make_private_dir(path: Path) -> None:
    """Create `path` and those of its parents that are missing, mode 0700. Raises LocalError."""
    try:
        for folder in reversed([path, *path.parents]):
            folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise LocalError(f"cannot create the directory {path}: {error.strerror}") from error


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically by a file of mode 0600. Raises LocalError."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        new.replace(path)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error


def lock_datadir(datadir: Path, program: str) -> FileLock:
    """Hold DATADIR/lock for as long as the process lives. Raises LocalError if another holds it."""
    lock = FileLock(datadir / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LocalError(f"another {program} runs on {datadir} (it holds {datadir / 'lock'})") from None
    except OSError as error:
        raise LocalError(f"cannot lock {datadir / 'lock'}: {error.strerror}") from error
    return lock
