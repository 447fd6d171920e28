"""Real tor extends a circuit to the reference relay, which returns what is for nobody through its own layer."""

import os
from contextlib import closing

import pytest

from flashflow.model.ids import Address
from flashflow.orlink.cells import PAYLOAD_BYTES, Command
from flashflow.orlink.relaycell import RelayCommand
from flashflow.testnet.relays import RelayProcess, RelaySpec
from support.or_client import OrClient, Target
from support.real_tor import RealTor, need_tor

CELLS = 200


@pytest.mark.net
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_loop_through_tor(tmp_path, host) -> None:
    need_tor()
    spec = RelaySpec(tmp_path / "relay", listen=(Address(host, 0),), options=("--loop",))
    with (
        RelayProcess(spec) as relay,
        RealTor(tmp_path) as tor,
        closing(OrClient(tor.target())) as client,
    ):
        keys = relay.wait_ready().keys
        identity = keys.identity
        far = Target(host, relay.address.port, identity.rsa_fingerprint, identity.ed25519, keys.ntor_public)
        client.create()
        client.extend(far)
        client.send_relay(RelayCommand.DROP, b"", stream_id=0)
        sent = [b"\1" * 3 + os.urandom(PAYLOAD_BYTES - 3) for _ in range(CELLS)]
        for payload in sent:
            client.send(Command.RELAY, through(client, payload))
        back = [client.expect(Command.RELAY).payload for _ in range(CELLS)]
        assert [peeled(client, payload) for payload in back] == sent


def through(client: OrClient, payload: bytes) -> bytes:
    for hop in reversed(client.circuit.hops):
        payload = hop.forward.cipher.crypt(payload)
    return payload


def peeled(client: OrClient, payload: bytes) -> bytes:
    for hop in client.circuit.hops:
        payload = hop.backward.cipher.crypt(payload)
    return payload
