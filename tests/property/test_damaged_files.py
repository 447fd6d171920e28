"""Files with any damage: a clear error of one line that names the file, or what the whole lines that are left say."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.app import read_secret
from flashflow.config.coord import load_coord
from flashflow.config.measurer import load_measurer
from flashflow.ctrl.access import Access
from flashflow.directory.consensus import read_consensus
from flashflow.directory.filter import RelayFilter, load_filter
from flashflow.keys import keygen, load_certificate, load_own
from flashflow.model.errors import FlashFlowError
from flashflow.model.ids import Address
from flashflow.store.store import Store
from support.records import failed, success

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "flashflow" / "config" / "examples"
FILTER = (
    "# who may be measured\n"
    "deny nick:bad\n"
    f"allow {'A' * 40} mode=echo rate=50\n"
    "allow net:10.0.0.0/16 mode=echo rate=8\n"
    f"allow {'B' * 40} mode=loop\n"
    "deny *\n"
)
CONSENSUS = (ROOT / "tests" / "vectors" / "directory" / "consensus-excerpt").read_bytes()

DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 20_000), st.just(b"")),
    st.tuples(st.just("flip"), st.integers(0, 20_000), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("delete line"), st.integers(0, 400), st.just(b"")),
    st.tuples(st.just("double line"), st.integers(0, 400), st.just(b"")),
    st.tuples(st.just("swap lines"), st.integers(0, 400), st.just(b"")),
    st.tuples(st.just("insert"), st.integers(0, 20_000), st.binary(min_size=1, max_size=40) | st.just(b"\0")),
    st.tuples(st.just("replace"), st.just(0), st.binary(max_size=200)),
)


def damaged(data: bytes, kind: str, at: int, more: bytes) -> bytes:
    """The content with one damage."""
    place = at % (len(data) + 1)
    lines = data.splitlines(keepends=True)
    number = at % max(1, len(lines))
    changes: dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[:place],
        "flip": lambda: data[:place] + more + data[place + len(more) :],
        "delete line": lambda: b"".join(lines[:number] + lines[number + 1 :]),
        "double line": lambda: b"".join([*lines[: number + 1], *lines[number:]]),
        "swap lines": lambda: b"".join(
            lines[:number] + lines[number : number + 2][::-1] + lines[number + 2 :]
        ),
        "insert": lambda: data[:place] + more + data[place:],
        "replace": lambda: more,
    }
    return changes[kind]()


def tried(call: Callable[[], T], name: object) -> tuple[T | None, str]:
    """What a call gives, or why it refuses: one line that names the file. Anything but our own errors fails the test."""
    try:
        return call(), ""
    except FlashFlowError as error:
        reason = error.reason
    assert reason.isprintable()
    assert str(name) in reason
    return None, reason


def reason_of(load: Callable[[Path], object], path: Path) -> str:
    """Why a file is refused; empty if it is not."""
    return tried(lambda: load(path), path)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def key(folder: Path) -> bytes:
    keygen(folder / "own.pem", "m1", datetime.now(UTC))
    return (folder / "own.pem").read_bytes()


LOADERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "coord.conf": (load_coord, (EXAMPLES / "coord.conf.example").read_bytes()),
    "measurer.conf": (load_measurer, (EXAMPLES / "measurer.conf.example").read_bytes()),
    "relay_filter": (load_filter, FILTER.encode()),
    "schedule_secret": (read_secret, b"ab" * 32 + b"\n"),
    "cookie": (lambda path: Access(Address("127.0.0.1", 1), path).cookie(), bytes(range(32))),
}


@pytest.mark.parametrize("name", LOADERS)
@settings(max_examples=120, deadline=None)
@given(DAMAGE)
def test_any_damage_is_refused_in_one_line_or_harmless(
    folder: Path, name: str, damage: tuple[str, int, bytes]
) -> None:
    load, whole = LOADERS[name]
    path = folder / name
    path.write_bytes(damaged(whole, *damage))
    reason_of(load, path)


@settings(max_examples=120, deadline=None)
@given(DAMAGE)
def test_keys_and_certificates(folder: Path, key: bytes, damage: tuple[str, int, bytes]) -> None:
    path = folder / "damaged.pem"
    path.write_bytes(damaged(key, *damage))
    refused = reason_of(load_certificate, path)
    own = reason_of(lambda path: load_own(path, datetime.now(UTC)), path)
    assert own or not refused, "who has a key has a certificate"


@given(st.integers(0, len(FILTER)))
def test_a_filter_that_is_cut_off_has_whole_rules_or_is_refused(folder: Path, length: int) -> None:
    path = folder / "cut_filter"
    path.write_text(FILTER[:length])
    found, reason = tried(lambda: load_filter(path), path)
    assert bool(reason) == (length > 0 and FILTER[length - 1] != "\n")
    if found is None:
        return
    assert found.rules == RelayFilter.parse(FILTER, "x").rules[: len(found.rules)]


def consensus_count(data: bytes) -> int:
    return len(read_consensus("consensus", data, {}, []).relays)


@given(st.integers(0, len(CONSENSUS)))
def test_a_consensus_that_is_cut_off_is_never_a_smaller_network(length: int) -> None:
    count, reason = tried(lambda: consensus_count(CONSENSUS[:length]), "consensus")
    assert reason or count == consensus_count(CONSENSUS)


@settings(max_examples=150, deadline=None)
@given(DAMAGE)
def test_a_damaged_consensus_loses_the_entry_that_was_hit_or_is_refused(
    damage: tuple[str, int, bytes],
) -> None:
    data = damaged(CONSENSUS, *damage)
    count, reason = tried(lambda: consensus_count(data), "consensus")
    assert reason or (count or 0) >= consensus_count(CONSENSUS) - 3


@pytest.fixture(scope="module")
def database(folder: Path) -> bytes:
    store = Store.open(folder / "whole.sqlite")
    for number in range(1, 60):
        store.save(success(number, 1000.0 + number))
        store.save(failed(number + 1000, 1000.0 + number))
    store.close()
    with sqlite3.connect(folder / "whole.sqlite") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / "whole.sqlite").read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["cut", "page", "header"]), st.integers(1, 10**6), st.integers(1, 255))
def test_a_damaged_database_is_refused_or_reads_what_was_stored(
    folder: Path, database: bytes, kind: str, at: int, value: int
) -> None:
    place = at % len(database)
    data = bytearray(database)
    if kind == "cut":
        data = data[:place]
    elif kind == "page":
        page = at % (len(data) // 4096)
        data[page * 4096 : (page + 1) * 4096] = bytes([value]) * 4096
    else:
        data[place % 100] ^= value
    path = folder / "damaged" / "results.sqlite"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    path.write_bytes(data)
    store, _ = tried(lambda: Store.open(path), path)
    if store is None:
        return
    with closing(store):
        kept, reason = tried(lambda: store.results(None, 1000), path)
    assert reason or len(kept or ()) in (0, 118)
    stored = {(record.meas_id, record.result_bytes) for record in kept or ()}
    assert stored <= {(n, 1_234_567) for n in range(1, 60)} | {(n + 1000, None) for n in range(1, 60)}


@pytest.mark.parametrize("name", LOADERS)
def test_a_directory_or_nothing_in_its_place(folder: Path, name: str) -> None:
    load, _ = LOADERS[name]
    place = folder / f"{name}.d"
    place.mkdir(exist_ok=True)
    assert reason_of(load, place)
    if name != "schedule_secret":  # made if it is missing
        assert reason_of(load, folder / "nothing" / name)


def test_what_is_checked_here_can_fail(folder: Path) -> None:
    """A loader that takes everything lets a cut filter through."""
    path = folder / "cut"
    path.write_text(FILTER[: FILTER.index("rate=50")])
    assert "is it cut off?" in reason_of(load_filter, path)
    assert len(RelayFilter.parse(path.read_text(), "x").rules) == 2
