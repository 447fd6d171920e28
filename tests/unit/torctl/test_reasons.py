from flashflow.model.errors import ErrorKind
from flashflow.orlink.meas import MeasErrCode
from flashflow.torctl.reasons import REASONS, Reason, describe, destroy_reason


def test_every_reason_is_described():
    assert set(REASONS) == set(Reason)


def test_every_refusal_of_a_relay_is_a_reason():
    assert {f"REFUSED_{code.name}" for code in MeasErrCode} <= {reason.value for reason in Reason}


def test_known_and_unknown():
    assert describe("STOPPED") == (ErrorKind.LOCAL, "stopped by the controller")
    assert describe("NEW_ONE") == (ErrorKind.PEER, "reason NEW_ONE")
    assert describe(None) == (ErrorKind.PEER, "reason not given")


def test_destroy_cells_are_reasons():
    assert destroy_reason(5) is Reason.DESTROY_RESOURCELIMIT
    assert destroy_reason(8) is Reason.DESTROY_CHANNEL_CLOSED
    assert destroy_reason(9) is destroy_reason(250) is Reason.RELAY_CLOSED
