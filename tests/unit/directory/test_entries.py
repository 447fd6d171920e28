"""One router entry, one descriptor: what is read, and what is left out when lines are broken."""

import base64

import pytest

from flashflow.directory.entries import read_descriptor, relay_of
from flashflow.model.ids import Address
from support.directory_files import descriptor_of, entry_of, fingerprint_of, relay_keys


def test_descriptor() -> None:
    found = read_descriptor(descriptor_of(1).encode())
    assert found is not None
    assert found.fingerprint == fingerprint_of(1)
    assert found.published.isoformat() == "2020-03-05T09:20:00"
    assert found.ed25519 == relay_keys(1).ed25519_identity.public_key().public_bytes_raw()
    assert found.ntor_key == relay_keys(1).ntor_public
    rates = (found.bandwidth_avg_bytes, found.bandwidth_burst_bytes, found.bandwidth_observed_bytes)
    assert rates == (5_000_000, 6_000_000, 1_000_000)


@pytest.mark.parametrize(
    "line",
    [
        "published 2020-03-05 09:20:00",
        "fingerprint " + " ".join(["ABCD"] * 10),
        "router test1 127.0.0.1 9001 0 0",
    ],
)
def test_a_descriptor_without_owner_or_date_is_left_out(line: str) -> None:
    keyword = line.split(" ")[0]
    lines = descriptor_of(1).splitlines(keepends=True)
    for broken in ("", f"{keyword}\n", f"{keyword} \xff\xfe\n"):
        text = "".join(broken if text.startswith(f"{keyword} ") else text for text in lines)
        found = read_descriptor(text.encode("latin-1"))
        assert found is None or keyword == "router"


@pytest.mark.parametrize(
    ("keyword", "field"),
    [
        ("master-key-ed25519", "ed25519"),
        ("ntor-onion-key", "ntor_key"),
        ("bandwidth", "bandwidth_avg_bytes"),
    ],
)
@pytest.mark.parametrize("value", ["", "x", "!" * 43, "A" * 42, "-1 -1 -1"])
def test_a_broken_line_costs_its_own_field(keyword: str, field: str, value: str) -> None:
    lines = descriptor_of(1).splitlines(keepends=True)
    text = "".join(f"{keyword} {value}\n" if line.startswith(f"{keyword} ") else line for line in lines)
    found = read_descriptor(text.encode())
    assert found is not None
    assert getattr(found, field) is None
    assert found.bandwidth_burst_bytes == (None if keyword == "bandwidth" else 6_000_000)


def test_a_key_with_padding() -> None:
    key = base64.b64encode(relay_keys(1).ntor_public).decode()
    text = descriptor_of(1).replace(f"ntor-onion-key {key.rstrip('=')}", f"ntor-onion-key {key}")
    found = read_descriptor(text.encode())
    assert found is not None
    assert found.ntor_key == relay_keys(1).ntor_public


def test_entry_without_descriptor() -> None:
    relay = relay_of(entry_of(3).encode(), {})
    assert relay is not None
    assert (relay.fingerprint, relay.nickname) == (fingerprint_of(3), "test3")
    assert relay.address == Address("127.0.0.1", 9003)
    assert (relay.consensus_weight_kb, relay.unmeasured, relay.running) == (3, False, True)
    assert relay.ed25519 is relay.ntor_key is relay.bandwidth_avg_bytes is None
    assert not relay.measurable


def test_entry_with_descriptor() -> None:
    descriptor = read_descriptor(descriptor_of(3).encode())
    assert descriptor is not None
    relay = relay_of(entry_of(3).encode(), {descriptor.fingerprint: descriptor})
    assert relay is not None
    assert relay.measurable
    assert relay.ed25519 == descriptor.ed25519
    assert relay.bandwidth_avg_bytes == 5_000_000


def test_an_ipv6_relay_has_its_additional_address() -> None:
    relay = relay_of(entry_of(1, "0.0.0.0", "a [::1]:9443\n").encode(), {})
    assert relay is not None
    assert relay.address == Address("::1", 9443)


def test_ipv4_comes_first() -> None:
    relay = relay_of(entry_of(1, "127.0.0.1", "a [::1]:9443\n").encode(), {})
    assert relay is not None
    assert relay.address == Address("127.0.0.1", 9001)


def test_more_addresses() -> None:
    more = "a [::1]:9443\na [2001:db8::7]:443\na [::1]:9443\n"
    relay = relay_of(entry_of(1, "127.0.0.1", more).encode(), {})
    assert relay is not None
    assert relay.more_addresses == (Address("::1", 9443), Address("2001:db8::7", 443))
    only_v6 = relay_of(entry_of(1, "0.0.0.0", more).encode(), {})
    assert only_v6 is not None
    assert (only_v6.address, only_v6.more_addresses) == (Address("::1", 9443), (Address("2001:db8::7", 443),))


@pytest.mark.parametrize(
    ("line", "family"),
    [
        (f"${'b' * 40} ${'A' * 40}", ("A" * 40, "B" * 40)),
        (f"${'A' * 40}=name ${'B' * 40}~name ${'A' * 40}", ("A" * 40, "B" * 40)),
        (f"moria1 ${'A' * 40} $short ${'A' * 41} ${'G' * 40} {'C' * 40}", ("A" * 40,)),
        ("moria1", ()),
        ("", ()),
    ],
)
def test_a_family_is_of_fingerprints(line: str, family: tuple[str, ...]) -> None:
    text = descriptor_of(1).replace("\npublished ", f"\nfamily {line}\npublished ")
    found = read_descriptor(text.encode())
    assert found is not None
    assert found.family == family
    relay = relay_of(entry_of(1).encode(), {found.fingerprint: found})
    assert relay is not None
    assert relay.family == family


def test_flags_and_weight() -> None:
    text = entry_of(1, flags="Valid").replace("w Bandwidth=1", "w Bandwidth=20 Unmeasured=1")
    relay = relay_of(text.encode(), {})
    assert relay is not None
    assert (relay.consensus_weight_kb, relay.unmeasured, relay.running) == (20, True, False)


@pytest.mark.parametrize(
    "entry",
    [
        b"r\n",
        b"r \n",
        b"r only four words here\n",
        b"\n",
        b"s Running\n",
        b"r \xff\xfe\n",
        entry_of(1, "300.0.0.1").encode(),
        entry_of(1, "0.0.0.0").encode(),
        entry_of(1, "0.0.0.0", "a nonsense\n").encode(),
        entry_of(1).replace(" 9001 ", " 0 ").encode(),
        entry_of(1).replace(" 9001 ", " 70000 ").encode(),
        entry_of(1).replace("r test1 ", "r te;st1 ").encode(),
        entry_of(1).replace("r test1 ", "r test1 AAAA").encode(),
    ],
)
def test_an_entry_that_cannot_be_read_is_left_out(entry: bytes) -> None:
    assert relay_of(entry, {}) is None


@pytest.mark.parametrize("line", ["w Bandwidth=x", "w", "w Bandwidth=-4", "w Unmeasured=7"])
def test_a_broken_weight_is_an_unknown_one(line: str) -> None:
    relay = relay_of(entry_of(1).replace("w Bandwidth=1", line).encode(), {})
    assert relay is not None
    assert relay.consensus_weight_kb is None
