import sys

import pytest

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.testnet.relays import RelayProcess, RelaySpec

READY = "print('ready 127.0.0.1:5,[::1]:6 ' + 'A' * 40, flush=True)\n"
SLEEP = "import time; time.sleep(60)"


def spec(folder, code: str) -> RelaySpec:
    return RelaySpec(folder, command=(sys.executable, "-c", code))


def test_the_command_line(tmp_path) -> None:
    made = RelaySpec(tmp_path, "nick", (Address("::1", 0),), ("--loop",), ("relay",))
    expected = (
        f"relay --data-dir {tmp_path} --nickname nick --listen [::1]:0 --counts {tmp_path}/counts --loop"
    )
    assert made.argv() == expected.split()


def test_the_ready_line_is_read(tmp_path) -> None:
    with RelayProcess(spec(tmp_path, READY + SLEEP)) as relay:
        relay.wait_ready()
        assert relay.addresses == (Address("127.0.0.1", 5), Address("::1", 6))
        assert (relay.address.port, relay.fingerprint) == (5, "A" * 40)


def test_one_that_fails_shows_the_end_of_its_log(tmp_path) -> None:
    code = "import sys; print('no luck', file=sys.stderr); sys.exit(3)"
    with (
        RelayProcess(spec(tmp_path, code)) as relay,
        pytest.raises(LocalError, match="did not start: no luck"),
    ):
        relay.wait_ready()
    assert relay.stop() == 3


def test_one_that_says_nothing_is_not_waited_for_for_ever(tmp_path) -> None:
    with (
        RelayProcess(spec(tmp_path, SLEEP)) as relay,
        pytest.raises(LocalError, match="did not start"),
    ):
        relay.wait_ready(0.2)


def test_a_command_that_does_not_exist(tmp_path) -> None:
    with pytest.raises(LocalError, match="cannot be started"):
        RelayProcess(RelaySpec(tmp_path, command=("/nonexistent",)))
