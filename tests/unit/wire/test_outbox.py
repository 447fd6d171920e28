"""The outbox: numbers, bounds, what is sent again."""

import pytest

from flashflow.model.errors import PeerError
from flashflow.wire.outbox import Outbox
from support.wire_pair import report


def filled(count: int) -> Outbox:
    outbox = Outbox(8)
    for second in range(1, count + 1):
        outbox.add(report(second))
    return outbox


def seqs(entries: list) -> list[int]:
    return [entry.seq for entry in entries]


def test_messages_are_sent_once_on_a_connection_and_again_on_the_next() -> None:
    outbox = filled(3)
    assert seqs(outbox.take_unsent(0.0)) == [1, 2, 3]
    assert outbox.take_unsent(0.0) == []
    outbox.add(report(4))
    assert seqs(outbox.take_unsent(0.0)) == [4]
    assert seqs(outbox.acknowledge(2)) == [1, 2]
    outbox.rewind()
    assert seqs(outbox.take_unsent(0.0)) == [3, 4]
    assert [entry.sends for entry in outbox] == [2, 2]


def test_what_was_not_sent_cannot_be_acknowledged() -> None:
    outbox = filled(3)
    with pytest.raises(PeerError, match="acknowledges message 1, but only 0 were sent"):
        outbox.acknowledge(1)
    outbox.take_unsent(0.0)
    assert seqs(outbox.acknowledge(3)) == [1, 2, 3]
    assert outbox.acknowledge(3) == []
    with pytest.raises(PeerError):
        outbox.acknowledge(4)


def test_it_is_bounded() -> None:
    outbox = filled(8)
    assert outbox.full
    outbox.take_unsent(0.0)
    outbox.acknowledge(1)
    assert not outbox.full


def test_numbers_start_again_with_a_new_session_and_tickets_do_not() -> None:
    outbox = filled(2)
    outbox.take_unsent(0.0)
    assert seqs(outbox.restart()) == [1, 2]
    assert len(outbox) == 0
    assert outbox.add(report(3)) == 3
    assert seqs(outbox.take_unsent(0.0)) == [1]


def test_find_knows_only_what_is_unacknowledged() -> None:
    outbox = filled(3)
    outbox.take_unsent(0.0)
    outbox.acknowledge(1)
    assert outbox.find(1) is None
    assert outbox.find(4) is None
    found = outbox.find(3)
    assert found is not None
    assert found.seq == 3
    assert Outbox(1).find(1) is None
