"""`host:port` in configuration and on the command line: taken, or one line of reason."""

import pytest

from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9001", Address("127.0.0.1", 9001)),
        ("[::1]:0", Address("::1", 0)),
        (" localhost:65535 ", Address("localhost", 65535)),
    ],
)
def test_taken(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":1", "host", "host:", "host:65536", "host:x", "host:²", "::1:80", "[::1]", "[nonsense]:1", "a..b:1", "é..b:1",
     f"{'x' * 70}:1", f"host:{'1' * 5000}", "ho\x00st:1", "host:-1"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^not an address: "):
        parse_address(text)
