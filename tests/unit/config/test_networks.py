"""Where a measurer may send."""

import pytest

from flashflow.config.networks import parse_networks


@pytest.mark.parametrize(
    ("text", "host", "allowed"),
    [
        ("public", "8.8.8.8", True),
        ("public", "2600::1", True),
        ("PUBLIC", "8.8.8.8", True),
        ("public", "127.0.0.1", False),
        ("public", "::1", False),
        ("public", "10.0.0.1", False),
        ("public", "169.254.169.254", False),
        ("public", "192.168.1.1", False),
        ("public", "fe80::1", False),
        ("public", "fd00::1", False),
        ("public", "0.0.0.0", False),
        ("public", "224.0.0.1", False),
        ("public", "255.255.255.255", False),
        ("public", "ff0e::1", False),
        ("public", "::ffff:127.0.0.1", False),
        ("public", "::ffff:8.8.8.8", True),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8", "128.0.0.1", False),
        ("127.0.0.0/8", "::1", False),
        ("::1/128", "::1", True),
        ("::1/128", "127.0.0.1", False),
        ("10.0.0.0/24,::1", "10.0.0.255", True),
        ("10.0.0.0/24 public", "9.9.9.9", True),
        ("::/0", "127.0.0.1", False),
        ("0.0.0.0/0", "relay.example", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "1.2.3", False),
    ],
)
def test_allows(text: str, host: str, allowed: bool) -> None:
    assert parse_networks(text).allows(host) is allowed


@pytest.mark.parametrize("text", ["10.0.0.1/24", "10.0.0.0/33", "nowhere", "::1/129"])
def test_no_networks(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits|not a valid"):
        parse_networks(text)
