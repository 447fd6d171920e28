from base64 import b64encode

import pytest

from flashflow.model.errors import UsageError
from flashflow.testnet.background import parse_key

KEY = bytes(range(32))


@pytest.mark.parametrize("text", [KEY.hex(), b64encode(KEY).decode(), b64encode(KEY).decode().rstrip("=")])
def test_keys_come_as_hex_or_base64(text) -> None:
    assert parse_key(text) == KEY


@pytest.mark.parametrize("text", ["", "xyz", KEY.hex()[:-2], "z" * 64, "ü" * 43])
def test_what_is_no_key(text) -> None:
    with pytest.raises(UsageError, match="32 bytes in hex or base64 expected"):
        parse_key(text)
