"""What a far end says when it is ready."""

import json
from typing import Any

import pytest

from flashflow.model.errors import PeerError
from flashflow.model.ids import Address
from flashflow.relay.farend import ready_line
from flashflow.torctl.commands import FarEnd
from measurer.core.farend import parse_ready
from support.far_peer import fingerprint
from support.orlink_keys import relay_keys


def test_what_the_far_end_says_is_understood() -> None:
    identities = [relay_keys(1), relay_keys(2)]
    addresses = [Address("192.0.2.1", 4000), Address("2001:db8::1", 4001)]
    assert parse_ready(ready_line(identities, addresses) + "\n") == tuple(
        FarEnd(address, fingerprint(keys), keys.identity.ed25519 or b"", keys.ntor_public)
        for keys, address in zip(identities, addresses, strict=True)
    )


ENTRY: dict[str, Any] = {
    "addr": "192.0.2.1:1",
    "fingerprint": "AB" * 20,
    "ed25519": "A" * 43,
    "ntor": "A" * 43,
}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ready",
        "ready []",
        "ready {}",
        "ready 7",
        "ready [7]",
        "steady [1]",
        "ready [",
        *(
            f"ready {json.dumps([ENTRY | changed])}"
            for changed in (
                {"addr": "far.example"},
                {"addr": 7},
                {"fingerprint": "AB"},
                {"ed25519": "A" * 42},
                {"ed25519": "!" * 43},
                {"ntor": None},
            )
        ),
        f"ready {json.dumps([{'addr': '192.0.2.1:1'}])}",
    ],
)
def test_anything_else_is_one_line(line: str) -> None:
    with pytest.raises(PeerError, match="the far end's first line") as caught:
        parse_ready(line)
    assert "\n" not in caught.value.reason
