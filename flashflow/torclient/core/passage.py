"""What a payload passes through until it is back: the onion layers of a circuit, each a keystream from some byte on.

In echo mode that is the relay's forward keystream. In loop mode it is the forward ones of the relay and of the far end and
then their backward ones, and `Extension` builds that circuit: EXTEND2 and EXTENDED2 are themselves relay cells, so that
the relay's keystreams are one cell ahead of the far end's in both directions.
"""

from dataclasses import dataclass, field
from typing import Final

from flashflow.model.errors import PeerError
from flashflow.orlink.cells import PAYLOAD_BYTES, CellError
from flashflow.orlink.extend import HANDSHAKE_NTOR, Extend2, parse_created2, relay_specifiers
from flashflow.orlink.ntor import KeyMaterial, NtorError, client_begin, client_finish
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.orlink.relaycrypto import ClientHop
from flashflow.torctl.commands import FarEnd
from flashflow.torctl.reasons import Reason, destroy_reason


@dataclass(frozen=True, slots=True)
class Layer:
    """One keystream that is applied on the way."""

    key: bytes = field(repr=False)
    """AES-128 key."""
    offset_bytes: int = 0
    """Bytes of it that relay cells used up before the first cell of traffic."""


def echo_passage(relay: KeyMaterial) -> tuple[Layer, ...]:
    """Of MEAS_ECHO cells on a new circuit: MEAS_JOIN is no relay cell, the relay's keystream is at its start."""
    return (Layer(relay.kf),)


class ExtensionError(PeerError):
    """The circuit does not reach the far end."""

    def __init__(self, code: Reason, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """What the controller is told."""


class Extension:
    """Extends a new circuit, whose keys with the relay are `relay`, to the far end; `secret` is 32 random bytes."""

    def __init__(self, relay: KeyMaterial, far_end: FarEnd, secret: bytes) -> None:
        self._relay = relay
        self._hop = ClientHop(relay)
        rsa = bytes.fromhex(far_end.fingerprint)
        self._ntor, self._onionskin = client_begin(rsa, far_end.ntor, secret)
        address = (far_end.address.host, far_end.address.port)
        self._specifiers: Final = relay_specifiers(rsa, far_end.ed25519, [address])

    def request(self) -> bytes:
        """The payload of the RELAY_EARLY cell that asks for it."""
        extend = Extend2(self._specifiers, HANDSHAKE_NTOR, self._onionskin)
        return self._hop.send(RelayCell(RelayCommand.EXTEND2, 0, extend.encode()))

    def answered(self, payload: bytes) -> tuple[Layer, ...]:
        """Takes the RELAY cell that answers; gives what traffic passes. ExtensionError."""
        try:
            far = client_finish(self._ntor, parse_created2(self._reply(payload)))
        except NtorError as exc:
            raise ExtensionError(Reason.FAR_END_INVALID, f"EXTENDED2: {exc.reason}") from exc
        except CellError as exc:
            raise ExtensionError(Reason.RELAY_PROTOCOL, f"EXTENDED2: {exc.reason}") from exc
        relay = self._relay
        ahead = PAYLOAD_BYTES
        return (Layer(relay.kf, ahead), Layer(far.kf), Layer(far.kb), Layer(relay.kb, ahead))

    def _reply(self, payload: bytes) -> bytes:
        cell = self._hop.receive(payload)
        if cell.command == RelayCommand.TRUNCATED:
            raise ExtensionError(
                Reason.EXTEND_REFUSED, f"EXTEND2 was answered by TRUNCATED {cell.data[:1].hex()}"
            )
        if cell.command != RelayCommand.EXTENDED2:
            raise ExtensionError(
                Reason.RELAY_PROTOCOL, f"EXTEND2 was answered by relay command {cell.command}"
            )
        return cell.data

    @staticmethod
    def destroyed(code: int) -> ExtensionError:
        """The relay answered with DESTROY."""
        found = destroy_reason(code)
        reason = found if found is Reason.DESTROY_RESOURCELIMIT else Reason.EXTEND_REFUSED
        return ExtensionError(reason, f"EXTEND2 was answered by DESTROY {code}")
