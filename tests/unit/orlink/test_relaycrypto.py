import hashlib

import numpy as np
import pytest

from flashflow.orlink.cells import CellError
from flashflow.orlink.ntor import expand_keys
from flashflow.orlink.relaycell import (
    RelayCell,
    RelayCommand,
)
from flashflow.orlink.relaycrypto import AesCtr, ClientHop, OnionCrypt, RelayHop, keystream

KEY = b"0123456789abcdef"
HELLO = RelayCell(RelayCommand.DATA, 7, b"hello")


def hops(count: int) -> tuple[OnionCrypt, list[RelayHop]]:
    keys = [expand_keys(bytes((number,)) * 32) for number in range(count)]
    return OnionCrypt([ClientHop(key) for key in keys]), [RelayHop(key) for key in keys]


@pytest.mark.parametrize("offset", [0, 1, 15, 16, 17, 509, 509 * 1000 + 3, 2**40 + 5])
def test_seeking_equals_running_there(offset: int) -> None:
    start = offset - offset % 16 - (16 if offset >= 16 else 0)
    assert (
        keystream(KEY, offset, 40) == AesCtr(KEY, start).crypt(bytes(offset - start + 40))[offset - start :]
    )


def test_pieces_equal_the_whole() -> None:
    cipher = AesCtr(KEY)
    pieces = [cipher.crypt(bytes(size)) for size in (0, 1, 15, 16, 509, 3)]
    assert b"".join(pieces) == keystream(KEY, 0, 544)
    assert cipher.offset_bytes == 544


def test_crypt_into_works_in_place_and_on_arrays() -> None:
    data = np.zeros((4, 509), np.uint8)
    cipher = AesCtr(KEY, 5)
    cipher.crypt_into(data, data)
    assert data.tobytes() == keystream(KEY, 5, 4 * 509)
    assert cipher.offset_bytes == 5 + 4 * 509
    cipher.offset_bytes = 5
    out = bytearray(16)
    cipher.crypt_into(b"\0" * 16, out)
    assert out == keystream(KEY, 5, 16)


def test_one_hop_both_ways() -> None:
    keys = expand_keys(bytes(32))
    client, relay = ClientHop(keys), RelayHop(keys)
    for number in range(3):
        cell = RelayCell(RelayCommand.DATA, number, bytes((number,)) * 100)
        assert relay.receive(client.send(cell))[1] == cell
        assert client.receive(relay.send(cell)) == cell
    assert client.forward.digest == relay.forward.digest
    assert client.backward.digest == relay.backward.digest
    assert client.forward.cipher.offset_bytes == 3 * 509


def test_each_hop_is_addressed_and_recognised() -> None:
    circuit, relays = hops(3)
    for target in (2, 0, 1, 2):
        payload = circuit.send(target, HELLO)
        for index, relay in enumerate(relays[: target + 1]):
            payload, cell = relay.receive(payload)
            assert cell == (HELLO if index == target else None)
        answer = relays[target].send(HELLO)
        for relay in reversed(relays[:target]):
            answer = relay.pass_back(answer)
        assert circuit.receive(answer) == (target, HELLO)


def test_a_changed_payload_is_recognised_nowhere() -> None:
    circuit, relays = hops(2)
    payload = bytearray(relays[1].send(HELLO))
    payload[200] ^= 1
    with pytest.raises(CellError, match="recognised by no hop"):
        circuit.receive(relays[0].pass_back(bytes(payload)))


def test_a_replayed_payload_is_not_recognised() -> None:
    keys = expand_keys(bytes(32))
    client, relay = ClientHop(keys), RelayHop(keys)
    payload = relay.send(HELLO)
    assert client.receive(payload) == HELLO
    with pytest.raises(CellError):
        client.receive(payload)


def test_a_cell_not_recognised_leaves_the_digest_alone() -> None:
    keys = expand_keys(bytes(32))
    client, relay = ClientHop(keys), RelayHop(keys)
    before = relay.forward.digest
    assert relay.receive(client.forward.cipher.crypt(bytes(509)))[1] is None
    assert relay.forward.digest == before
    assert relay.receive(client.send(HELLO))[1] == HELLO


def test_a_recognized_field_that_is_not_zero_is_not_recognised() -> None:
    """Even with a digest that fits."""
    keys = expand_keys(bytes(32))
    relay = RelayHop(keys)
    payload = bytearray(HELLO.encode())
    payload[2] = 1
    payload[5:9] = hashlib.sha1(keys.df + payload).digest()[:4]
    assert relay.receive(AesCtr(keys.kf).crypt(payload))[1] is None


def test_echo_cells_share_the_keystream_with_relay_cells() -> None:
    keys = expand_keys(bytes(32))
    client, relay = ClientHop(keys), RelayHop(keys)
    relay.receive(client.send(HELLO))
    sent = bytes(3 * 509)
    assert relay.forward.cipher.crypt(sent) == keystream(keys.kf, 509, 3 * 509)
    client.forward.cipher.offset_bytes += 3 * 509
    assert relay.receive(client.send(HELLO))[1] == HELLO


@pytest.mark.parametrize("size", [0, 508, 510])
def test_payloads_of_another_size_are_refused(size: int) -> None:
    circuit, relays = hops(1)
    for refuse in (circuit.receive, relays[0].receive, relays[0].pass_back, circuit.hops[0].receive):
        with pytest.raises(CellError, match="509 expected"):
            refuse(bytes(size))
