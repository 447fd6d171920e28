"""Opening: new, older, newer, foreign and damaged files; the settings that make a commit durable."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from flashflow.model.errors import LocalError
from flashflow.store import opening, schema
from flashflow.store.store import Store
from support.records import FINGERPRINT, failed, success

V1_ROWS = """
INSERT INTO measurement (id, meas_id, fingerprint, nickname, mode, started_utc_s, active_utc_s, ended_utc_s,
    duration_s, background_ratio, result_bytes, background_bytes, accepted, failure_kind, failure_reason)
VALUES
    (1, 1, 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'relay1', 'echo', 89.5, 94.75, 100.0, 3, 0.25, 1234567, 4321, 1,
     NULL, NULL),
    (2, 2, 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'relay1', 'echo', 189.5, NULL, 200.0, 3, 0.25, NULL, NULL, 0,
     'peer', 'the relay refused: 2 measurements in this period');
INSERT INTO share VALUES (1, 'm1', 0, 2000000, 4), (1, 'm2', 1, 1000000, 2);
INSERT INTO report VALUES (1, 'm1', 1, 9, 8), (1, 'm1', 3, 7, 6), (1, '', 1, 5, 4), (1, '', 2, 3, 2);
INSERT INTO state VALUES ('period', '{"start_utc_s": 5}');
"""


def older(path: Path) -> Path:
    """A database as a FlashFlow of schema version 1 left it, made by that version's own migration."""
    path.touch()
    engine = opening._engine(path)
    opening.upgrade(engine, 1)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(V1_ROWS)
    return path


def version_of(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def refusal(path: Path) -> str:
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LocalError) as caught:
        Store.open(path)
    assert (path.read_bytes() if path.is_file() else b"") == before, "a refused file is left as it was"
    reason = caught.value.reason
    assert "\n" not in reason
    assert reason.startswith(f"{path}: ")
    return reason.removeprefix(f"{path}: ")


def test_a_new_database_is_private_and_of_the_newest_version(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    Store.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert version_of(path) == f"{schema.VERSION:04}"
    assert [file.name for file in tmp_path.iterdir()] == ["results.sqlite"]


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    """What is left when the process dies between making the file and its first schema."""
    path = tmp_path / "results.sqlite"
    path.touch()
    Store.open(path).close()
    path.unlink()
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()
    assert path.stat().st_size > 0
    store = Store.open(path)
    store.save(success(1, 100.0))
    assert len(store.results(None, 9)) == 1


def test_a_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    """https://sqlite.org/pragma.html#pragma_synchronous: FULL (2) syncs the WAL after each transaction."""
    engine = opening.open_engine(tmp_path / "results.sqlite")
    with engine.begin() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert values == ["wal", 2, 1, 5_000]


def test_the_last_migration_gives_the_schema_of_the_code(tmp_path: Path) -> None:
    engine = opening.open_engine(tmp_path / "results.sqlite")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_versions_and_revisions_agree() -> None:
    config = Config()
    config.set_main_option("script_location", str(opening._MIGRATIONS))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert revisions == [f"{version:04}" for version in range(schema.VERSION, 0, -1)]


def test_an_older_database_is_upgraded_and_keeps_everything(tmp_path: Path) -> None:
    store = Store.open(older(tmp_path / "results.sqlite"))
    expected = [failed(2, 200.0, bandwidth_avg_bytes=None), success(1, 100.0, bandwidth_avg_bytes=None)]
    assert store.results(None, 9) == expected
    assert store.failure_counts(0.0) == {FINGERPRINT: 1}
    (standing,) = store.standings().values()
    assert (standing.relay_failures, standing.forgeries, standing.excluded) == (1, 0, False)
    assert store.get_state("period") == {"start_utc_s": 5}
    store.save(success(3, 300.0))
    store.close()
    assert version_of(tmp_path / "results.sqlite") == f"{schema.VERSION:04}"


def test_the_upgrade_leaves_a_copy_of_the_older_database(tmp_path: Path) -> None:
    Store.open(older(tmp_path / "results.sqlite")).close()
    copies = sorted(tmp_path.glob("results.sqlite.v0001.*Z.bak"))
    assert len(copies) == 1
    assert copies[0].stat().st_mode & 0o777 == 0o600
    assert version_of(copies[0]) == "0001"
    with contextlib.closing(sqlite3.connect(copies[0])) as connection:
        assert connection.execute("SELECT count(*), sum(recv_bytes) FROM report").fetchone() == (4, 20)
    Store.open(tmp_path / "results.sqlite").close()
    assert sorted(tmp_path.glob("*.bak")) == copies, "a database that is up to date is not copied"


def test_without_a_copy_there_is_no_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = older(tmp_path / "results.sqlite")
    monkeypatch.setattr(opening.time, "strftime", lambda *_: "now")
    (tmp_path / "results.sqlite.v0001.now.bak").write_text("an earlier copy")
    assert refusal(path) == "results database: File exists"
    assert (tmp_path / "results.sqlite.v0001.now.bak").read_text() == "an earlier copy"
    assert version_of(path) == "0001"


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = older(tmp_path / "results.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE measurement_by_end (in_the_way)")
    assert "measurement_by_end" in refusal(path)
    assert version_of(path) == "0001"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(measurement)")]
    assert "bandwidth_avg_bytes" not in columns


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    Store.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    expected = f"made by a newer FlashFlow: schema version 99, this one knows up to {schema.VERSION}"
    assert refusal(path) == expected


@pytest.mark.parametrize("statement", ["CREATE TABLE x (y)", "CREATE TABLE alembic_version (version_num)"])
def test_a_foreign_database_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "results.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    assert refusal(path) == "expected a results database of FlashFlow, found another program's database"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    path.write_text("datadir = data-coord\n" * 100)
    assert refusal(path).startswith("the results database is damaged (file is not a database); move it away")


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    store = Store.open(path)
    for number in range(1, 200):
        store.save(success(number, 100.0 + number))
    store.close()
    data = bytearray(path.read_bytes())
    data[8192 : len(data) // 2] = bytes(len(data) // 2 - 8192)
    path.write_bytes(data)
    assert refusal(path).startswith("the results database is damaged (")


def test_a_cut_off_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    store = Store.open(path)
    for number in range(1, 50):
        store.save(success(number, 100.0 + number))
    store.close()
    path.write_bytes(path.read_bytes()[:10_000])
    assert refusal(path).startswith("the results database is damaged (")


def test_a_directory_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("results database: ")
    assert refusal(tmp_path / "no" / "results.sqlite") == "results database: No such file or directory"


def test_a_place_that_cannot_be_written_is_refused() -> None:
    assert refusal(Path("/proc/results.sqlite")).startswith("results database: ")
