"""The echo check against honest and cheating relays, without sockets."""

import random

import numpy as np
import pytest

from flashflow.orlink.bulk import as_cells, cell_header, empty_cells, payloads
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.orlink.relaycrypto import AesCtr
from flashflow.torclient.core.passage import Layer
from flashflow.torclient.core.sampling import BATCH_SAMPLES, EchoCheck, EchoError, TruncatedError
from flashflow.torclient.core.stream import EchoStream
from flashflow.torctl.reasons import Reason

FORWARD_KEY = b"relay forward 16"
BUCKET = 10


class World:
    """A measurer's circuit and the cells it has sent."""

    def __init__(self, bucket_cells=BUCKET, offset_bytes=0, draw=None, **options):
        self.drawn = []
        rng = random.Random(7)

        def remember(limit):
            self.drawn.append(draw(limit) if draw is not None else rng.randrange(limit))
            return self.drawn[-1]

        self.stream = EchoStream(b"a secret of 16 b", cell_header(0x80000001, 41))
        self.relay = AesCtr(FORWARD_KEY, offset_bytes)
        self.check = EchoCheck(
            stream=self.stream,
            passage=(Layer(FORWARD_KEY, offset_bytes),),
            bucket_cells=bucket_cells,
            draw=remember,
            **options,
        )

    def send(self, count):
        cells = as_cells(bytes(self.stream.fill(empty_cells(count, bytes(5)))))
        return payloads(cells)

    def decrypt(self, sent):
        plain = self.relay.crypt(np.ascontiguousarray(sent).reshape(-1))
        return np.frombuffer(plain, np.uint8).reshape(len(sent), 509)


def take_all(check, batches, *, final):
    for batch in batches:
        check.take(batch)
    (check.finish if final else check.verify)()


def code_of(check, *batches, final=False):
    """What the check of these batches ends with; it has to end with something."""
    with pytest.raises(EchoError) as caught:
        take_all(check, batches, final=final)
    return caught.value.code


@pytest.mark.parametrize("batch", [1, 3, BUCKET, 17, 100])
@pytest.mark.parametrize("offset", [0, 509 * 2])
def test_honest_echo_passes_in_any_batches(batch, offset):
    world = World(offset_bytes=offset)
    echoed = world.decrypt(world.send(100))
    for start in range(0, 100, batch):
        world.check.take(echoed[start : start + batch])
        world.check.verify()
    world.check.finish()
    assert world.check.received_cells == 100
    assert len(world.drawn) == 10


def test_a_bucket_is_drawn_when_it_begins_not_before():
    world = World()
    echoed = world.decrypt(world.send(30))
    world.check.take(echoed[:BUCKET])
    assert len(world.drawn) == 1
    world.check.take(echoed[BUCKET : BUCKET + 1])
    assert len(world.drawn) == 2


@pytest.mark.parametrize("draw", [lambda limit: 0, lambda limit: limit - 1, lambda limit: limit // 2])
def test_every_place_in_a_bucket_can_be_the_one(draw):
    world = World(draw=draw)
    echoed = world.decrypt(world.send(40)).copy()
    echoed[3 * BUCKET + draw(BUCKET), 508] ^= 1
    world.check.take(echoed[: 3 * BUCKET])
    assert code_of(world.check, echoed[3 * BUCKET :]) is Reason.ECHO_WRONG


@pytest.mark.parametrize("place", [0, 250, 508])
def test_all_bytes_of_the_cell_are_compared(place):
    world = World(bucket_cells=1)
    echoed = world.decrypt(world.send(1)).copy()
    echoed[0, place] ^= 0x80
    assert code_of(world.check, echoed) is Reason.ECHO_WRONG


def test_relay_that_skips_decryption():
    world = World()
    assert code_of(world.check, world.send(50)) is Reason.ECHO_WRONG


def test_relay_that_replays_an_earlier_answer():
    world = World()
    echoed = world.decrypt(world.send(BUCKET))
    world.check.take(echoed)
    world.send(BUCKET)
    assert code_of(world.check, echoed) is Reason.ECHO_WRONG


def test_relay_whose_keystream_is_out_of_step():
    world = World()
    sent = world.send(40)
    world.relay.crypt(bytes(509))
    assert code_of(world.check, world.decrypt(sent)) is Reason.ECHO_WRONG


def test_relay_that_drops_a_cell():
    world = World()
    echoed = world.decrypt(world.send(100))
    assert code_of(world.check, echoed[1:]) is Reason.ECHO_WRONG


def test_relay_that_echoes_before_anything_was_sent():
    world = World()
    assert code_of(world.check, np.zeros((1, 509), np.uint8)) is Reason.ECHO_INVENTED


def test_relay_that_sends_more_than_it_got():
    world = World(bucket_cells=1000, draw=lambda limit: 0)
    echoed = world.decrypt(world.send(20))
    world.check.take(echoed)
    assert code_of(world.check, echoed[:1]) is Reason.ECHO_INVENTED


def test_relay_that_echoes_cells_which_are_still_on_their_way():
    world = World(draw=lambda limit: 3)
    world.send(2 * BUCKET)
    assert code_of(world.check, np.zeros((BUCKET, 509), np.uint8)) is Reason.ECHO_WRONG


def test_wrong_cells_after_the_last_checked_one_fail_the_final_check():
    world = World(bucket_cells=100, draw=lambda limit: 0)
    echoed = world.decrypt(world.send(90)).copy()
    echoed[1:] = 0
    world.check.take(echoed)
    world.check.verify()
    assert code_of(world.check, final=True) is Reason.ECHO_WRONG


def test_nothing_received_passes():
    world = World()
    world.check.take(np.empty((0, 509), np.uint8))
    world.check.finish()
    assert world.drawn == []
    assert world.check.received_cells == 0


def test_samples_are_verified_before_there_are_too_many():
    world = World(bucket_cells=1)
    sent = world.send(BATCH_SAMPLES)
    with pytest.raises(EchoError, match="echo cell 0 is not what its passage"):
        world.check.take(sent)


def truncated(world, reason=8):
    """The relay's own last cell, which goes through its layer like the others."""
    plain = RelayCell(RelayCommand.TRUNCATED, 0, bytes((reason,))).encode()
    return np.frombuffer(world.relay.crypt(plain), np.uint8).reshape(1, 509)


@pytest.mark.parametrize("bucket_cells", [1, 1000])
def test_truncated_as_the_last_cell_is_no_echo_and_no_cheat(bucket_cells):
    """Whether it happens to be a sample or not."""
    world = World(bucket_cells=bucket_cells, truncates=True)
    world.check.take(world.decrypt(world.send(20))[:13])
    world.relay = AesCtr(FORWARD_KEY, 13 * 509)
    world.check.take(truncated(world))
    with pytest.raises(TruncatedError, match="TRUNCATED 8") as caught:
        world.check.finish()
    assert caught.value.code == Reason.DESTROY_CHANNEL_CLOSED
    assert world.check.received_cells == 13
    world.check.finish()  # once more, as the circuit is closed


def test_truncated_hides_no_wrong_cell_before_it():
    world = World(bucket_cells=1000, draw=lambda limit: 0, truncates=True)
    echoed = world.decrypt(world.send(20))[:13].copy()
    echoed[12, 7] ^= 1
    world.relay = AesCtr(FORWARD_KEY, 13 * 509)
    assert code_of(world.check, echoed, truncated(world), final=True) == Reason.ECHO_WRONG


def test_truncated_amid_the_echoes_is_a_cheat():
    world = World(bucket_cells=1, truncates=True)
    echoed = world.decrypt(world.send(3))
    world.relay = AesCtr(FORWARD_KEY, 0)
    assert code_of(world.check, truncated(world), echoed[1:2]) == Reason.ECHO_WRONG


def test_truncated_means_nothing_in_echo_mode():
    world = World(bucket_cells=1)
    world.send(3)
    assert code_of(world.check, truncated(world)) == Reason.ECHO_WRONG
