"""Files with any damage: a clear error of one line that names the file, or what the whole lines that are left say."""

import configparser
import itertools
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import ip_network
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
from flashflow.directory.filter import RelayFilter, Rule, Who, load_filter
from flashflow.keys import keygen, load_certificate, load_own
from flashflow.model.errors import FlashFlowError
from flashflow.model.ids import Address
from flashflow.model.units import BYTES_PER_MBIT
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


RULE = re.compile(
    r"\s*(?P<action>allow|deny)\s+"
    r"(?:\$?(?P<fingerprint>[0-9A-Fa-f]{40})|nick:(?P<nick>[A-Za-z0-9]{1,19})"
    r"|family:\$?(?P<family>[0-9A-Fa-f]{40})|net:(?P<net>[0-9A-Fa-f.:]+(?:/[0-9.]+)?)|(?P<everyone>\*))"
    r"(?P<options>(?:\s+(?:mode|rate)=[^\s#]+)*)\s*(?:#.*)?"
)


def read_filter(text: bytes) -> RelayFilter:
    """What a relay filter says, read by a pattern; every line that is not blank or comment has to match it."""
    rules = []
    for number, line in enumerate(text.decode().split("\n"), start=1):
        if not line.partition("#")[0].strip():
            continue
        found = RULE.fullmatch(line)
        assert found, f"line {number} says nothing that a filter can say: {line!r}"
        kind = next(name for name in ("fingerprint", "nick", "family", "net", "everyone") if found[name])
        value = {"nick": str.lower, "net": lambda net: str(ip_network(net)), "everyone": lambda _: ""}
        who = Who("*" if kind == "everyone" else kind, value.get(kind, str.upper)(found[kind]))
        options = dict(word.split("=", 1) for word in found["options"].split())
        rate = int(float(options["rate"]) * BYTES_PER_MBIT) if "rate" in options else None
        rules.append(Rule(found["action"] == "allow", who, options.get("mode", "echo"), rate, number))
    return RelayFilter(tuple(rules))


def read_hex(text: bytes) -> bytes:
    """The bytes that hexadecimal digits say, whatever white space is between them."""
    digits = "".join(text.decode("ascii").split())
    assert re.fullmatch("[0-9A-Fa-f]{64}", digits)
    return int(digits, 16).to_bytes(32, "big")


def rewritten(load: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """The settings of a file that has each key of the damaged one in a clean line of its own."""

    def read(path: Path, text: bytes) -> object:
        parser = configparser.RawConfigParser(default_section="")
        parser.read_string(text.decode())
        clean = ""
        for section in parser.sections():
            lines = [f"{key} = {value}".replace("\n", "\n  ") for key, value in parser.items(section)]
            clean += f"[{section}]\n" + "".join(f"{line}\n" for line in lines)
        other = path.with_name(f"clean-{path.name}")
        other.write_text(clean)
        return load(other)

    return read


READ_APART: dict[str, Callable[[Path, bytes], object]] = {
    "coord.conf": rewritten(load_coord),
    "measurer.conf": rewritten(load_measurer),
    "relay_filter": lambda _, text: read_filter(text),
    "schedule_secret": lambda _, text: read_hex(text),
    "cookie": lambda _, text: text,
}
"""How a damaged file that is accepted is read once more, not by what is tested."""

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
def test_any_damage_is_refused_in_one_line_or_what_is_left_is_read(
    folder: Path, name: str, damage: tuple[str, int, bytes]
) -> None:
    load, whole = LOADERS[name]
    path = folder / name
    data = damaged(whole, *damage)
    path.write_bytes(data)
    found, reason = tried(lambda: load(path), path)
    if reason:
        assert data != whole
    else:
        assert found == READ_APART[name](path, data)


@pytest.mark.parametrize("name", LOADERS)
def test_a_whole_file_is_read_alike_by_both(folder: Path, name: str) -> None:
    load, whole = LOADERS[name]
    path = folder / name
    path.write_bytes(whole)
    assert load(path) == READ_APART[name](path, whole)


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


def consensus_count(data: bytes) -> tuple[int, int]:
    """How many relays a consensus gives, and how many it says that it leaves out."""
    warnings: list[str] = []
    count = len(read_consensus("consensus", data, {}, warnings).relays)
    told = [re.match(r"consensus: (\d+) router entries cannot be read", line) for line in warnings]
    assert all(told)
    return count, sum(int(one[1]) for one in told if one)


WHOLE_COUNT, _ = consensus_count(CONSENSUS)


def entries(data: bytes) -> int:
    """Lines that begin a router entry, before the footer."""
    lines = itertools.takewhile(lambda line: line.rstrip() != b"directory-footer", data.splitlines())
    return sum(line.startswith(b"r ") for line in lines)


@given(st.integers(0, len(CONSENSUS)))
def test_a_consensus_that_is_cut_off_is_never_a_smaller_network(length: int) -> None:
    found, reason = tried(lambda: consensus_count(CONSENSUS[:length]), "consensus")
    assert reason or found == (WHOLE_COUNT, 0)


@settings(max_examples=150, deadline=None)
@given(DAMAGE)
def test_a_damaged_consensus_loses_the_entry_that_was_hit_with_a_warning_or_is_refused(
    damage: tuple[str, int, bytes],
) -> None:
    data = damaged(CONSENSUS, *damage)
    found, reason = tried(lambda: consensus_count(data), "consensus")
    if found is None:
        assert reason
        return
    count, left_out = found
    assert count >= WHOLE_COUNT - 3
    # whatever begins an entry is a relay or in the warning; a line that only looks like an entry's may be counted too
    assert entries(data) <= count + left_out <= WHOLE_COUNT + 1


@pytest.mark.parametrize("kind", ["delete line", "flip"])
def test_an_entry_whose_first_line_was_hit_is_not_lost_without_a_word(kind: str) -> None:
    """Nor are its other lines taken for those of the entry before it, which cannot be told from it any more."""
    lines = CONSENSUS.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(b"r "):
            at = number if kind == "delete line" else sum(map(len, lines[:number]))
            found, reason = tried(lambda at=at: consensus_count(damaged(CONSENSUS, kind, at, b"x")), "c")
            is_first = not any(before.startswith(b"r ") for before in lines[:number])
            assert reason or found == ((WHOLE_COUNT - 1, 1) if is_first else (WHOLE_COUNT - 2, 2))


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
    assert reason or len(kept or ()) == (118 if len(data) > 1 else 0)  # SQLite takes one byte for none
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
