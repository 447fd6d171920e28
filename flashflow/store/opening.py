"""Opening the database file: refuses what is damaged, foreign or newer, backs up and upgrades what is older."""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from flashflow.model.errors import LocalError
from flashflow.store import schema

BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for another process that writes, milliseconds."""
CHECKED_BYTES = 256 << 20
"""A file up to this size is read through for damage when it is opened, which takes at most a few seconds."""
LEAST_FREE_BYTES = 64 << 10
"""What SQLite makes beside the database needs half of this."""
_MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(path: Path) -> Engine:
    """An engine of one connection on the database at `path`, made or upgraded as needed. Raises LocalError."""
    with translated(path):
        version = _prepare(path)
        engine = _engine(path)
        try:
            if version is None:
                upgrade(engine, schema.VERSION)
                _sync_folder(path.parent)
            elif version < schema.VERSION:
                _back_up(path, version)
                upgrade(engine, schema.VERSION)
        except BaseException:
            engine.dispose()
            raise
        return engine


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Every error of the database or the disk as LocalError of one line that names the file."""
    try:
        yield
    except DBAPIError as error:
        raise LocalError(f"{path}: results database: {_in_words(error.orig, path)}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise LocalError(f"{path}: results database: {_in_words(error, path)}") from error
    except OSError as error:
        raise LocalError(f"{path}: results database: {error.strerror or error}") from error


def _in_words(error: BaseException | None, path: Path) -> str:
    """What SQLite says. A full disk is a "disk I/O error" to it where it makes the files that it works with."""
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_IOERR"):
        with contextlib.suppress(OSError):
            if shutil.disk_usage(path.parent).free < LEAST_FREE_BYTES:
                return f"{error}: the disk is full"
    return str(error)


def upgrade(engine: Engine, version: int) -> None:
    """Bring the schema to `version`, in one transaction."""
    from alembic import command  # slow to import, seldom needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, f"{version:04}")


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _set_up_connection)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _set_up_connection(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin only before DML: a migration would not be one
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit has reached the disk when it returns
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _prepare(path: Path) -> int | None:
    """The schema version of the file at `path`, None where it is new; makes it where it is missing."""
    if not path.exists() or path.stat().st_size == 0:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return None
    for place in (path, path.parent):  # SQLite says of either only that it is "unable to open database file"
        if not os.access(place, os.W_OK):
            raise LocalError(f"{place}: cannot be written: no permission, or a read-only file system")
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
        try:
            return _stored_version(path, connection)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, no room: not the file's fault
                raise
            raise _damaged(path, str(error)) from error


def _stored_version(path: Path, connection: sqlite3.Connection) -> int | None:
    if path.stat().st_size <= CHECKED_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _damaged(path, " ".join(str(found).split()))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None  # made, then killed before the first schema was committed
    row = None
    if "alembic_version" in tables:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None or not str(row[0]).isdigit():
        raise LocalError(
            f"{path}: expected a results database of FlashFlow, found another program's database"
        )
    version = int(row[0])
    if version > schema.VERSION:
        reason = f"schema version {version}, this one knows up to {schema.VERSION}"
        raise LocalError(f"{path}: made by a newer FlashFlow: {reason}")
    return version


def _damaged(path: Path, detail: str) -> LocalError:
    return LocalError(f"{path}: the results database is damaged ({detail}); move it away or restore a backup")


def _back_up(path: Path, version: int) -> Path:
    """Copy the database as it is beside itself, named by its version and the time; on disk before this returns."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    target = path.with_name(f"{path.name}.v{version:04}.{stamp}.bak")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    _sync_folder(target.parent)
    return target


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
