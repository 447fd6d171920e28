import pytest

from flashflow.orlink import ntor

NODE_ID, ONION, CLIENT, SERVER = b"n" * 20, b"o" * 32, b"c" * 32, b"s" * 32
ONION_KEY = ntor.public_key(ONION)


def test_both_sides_agree() -> None:
    state, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    reply, server_keys = ntor.server_reply(NODE_ID, ONION, onionskin + b"padding", SERVER)
    assert (len(onionskin), len(reply)) == (84, 64)
    assert ntor.client_finish(state, reply + b"padding") == server_keys
    assert [len(part) for part in (server_keys.df, server_keys.db, server_keys.kf, server_keys.kb)] == [
        20,
        20,
        16,
        16,
    ]
    assert len(server_keys.kh) == 20


def test_another_ephemeral_key_gives_other_circuit_keys() -> None:
    _, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    first = ntor.server_reply(NODE_ID, ONION, onionskin, SERVER)
    assert first != ntor.server_reply(NODE_ID, ONION, onionskin, b"t" * 32)


@pytest.mark.parametrize("at", [0, 31, 32, 63])
def test_a_changed_reply_is_refused(at: int) -> None:
    state, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    reply = bytearray(ntor.server_reply(NODE_ID, ONION, onionskin, SERVER)[0])
    reply[at] ^= 1
    with pytest.raises(ntor.NtorError, match="AUTH is wrong"):
        ntor.client_finish(state, bytes(reply))


def test_a_relay_without_the_onion_key_is_refused() -> None:
    state, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    forged = NODE_ID + ntor.public_key(b"x" * 32) + onionskin[52:]
    reply, _ = ntor.server_reply(NODE_ID, b"x" * 32, forged, SERVER)
    with pytest.raises(ntor.NtorError, match="does not own the expected ntor key"):
        ntor.client_finish(state, reply)


@pytest.mark.parametrize(("node_id", "onion_key"), [(b"m" * 20, ONION_KEY), (NODE_ID, b"\x09" + bytes(31))])
def test_an_onionskin_for_another_relay_is_refused(node_id: bytes, onion_key: bytes) -> None:
    _, onionskin = ntor.client_begin(node_id, onion_key, CLIENT)
    with pytest.raises(ntor.NtorError, match="made for another relay identity or ntor key"):
        ntor.server_reply(NODE_ID, ONION, onionskin, SERVER)


def test_points_of_small_order_are_refused_on_both_sides() -> None:
    state, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    with pytest.raises(ntor.NtorError, match="small order"):
        ntor.client_finish(state, bytes(64))
    with pytest.raises(ntor.NtorError, match="small order"):
        ntor.server_reply(NODE_ID, ONION, onionskin[:52] + bytes(32), SERVER)


def test_short_messages_are_refused() -> None:
    state, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    with pytest.raises(ntor.NtorError, match="63 bytes, 64 expected"):
        ntor.client_finish(state, bytes(63))
    with pytest.raises(ntor.NtorError, match="83 bytes, 84 expected"):
        ntor.server_reply(NODE_ID, ONION, onionskin[:83], SERVER)


def test_secrets_stay_out_of_representations() -> None:
    state, onionskin = ntor.client_begin(NODE_ID, ONION_KEY, CLIENT)
    _, keys = ntor.server_reply(NODE_ID, ONION, onionskin, SERVER)
    assert repr(keys) == "KeyMaterial()"
    assert "ccc" not in repr(state)
