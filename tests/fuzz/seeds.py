"""`python -m tests.fuzz.seeds`: writes a few valid inputs of each target into its corpus, for the fuzzer to begin with."""

from pathlib import Path

from flashflow.orlink import certs_cell, extend, meas, netinfo, relaycell
from flashflow.orlink.cells import Cell, Command, encode_cell
from flashflow.orlink.descriptor import build_server_descriptor
from flashflow.wire.framing import encode_frame
from flashflow.wire.messages import Data, Heartbeat, Hello, Welcome, encode_envelope
from support.client_hello import client_hello
from support.orlink_keys import NOW_UTC_S, link_certificate, relay_keys
from support.wire_pair import epoch, go, order, report
from tests.fuzz.targets import CORPUS

ROOT = Path(__file__).resolve().parents[2]


def seeds() -> dict[str, list[bytes]]:
    """Target -> inputs."""
    keys = relay_keys()
    certs = certs_cell.responder_certs(keys, link_certificate().certificate_der, NOW_UTC_S)
    params = meas.MeasParams(1, 2, 3, (meas.MeasurerSpec(b"t" * 16, 4, ("::1", 5)),)).encode()
    extend2 = extend.Extend2(extend.relay_specifiers(b"f" * 20, b"e" * 32, [("::1", 1)]), 2, b"h" * 84)
    info = netinfo.NetInfo(1, "::1", ("127.0.0.1",)).encode()
    cells = [
        encode_cell(Cell(0, Command.VERSIONS, b"\0\4\0\5"), circ_id_bytes=2)
        + encode_cell(Cell(0, Command.CERTS, certs))
        + encode_cell(Cell(0, Command.AUTH_CHALLENGE, bytes(32) + b"\0\1\0\3"))
        + encode_cell(Cell(0, Command.NETINFO, info)),
    ]
    hello = Hello(version=1, name="m1", capacity_bytes=5, epoch=epoch(5), peer_epoch=None, received=0)
    said = [report(1), go(1), order()]
    data = b"".join(
        encode_frame(encode_envelope(Data(seq=n, ack=0, message=message.model_dump(mode="json"))))
        for n, message in enumerate(said, start=1)
    )
    greeting = encode_frame(encode_envelope(hello))
    welcome = encode_frame(encode_envelope(Welcome(version=1, name="coord", epoch=epoch(9), received=0)))
    beat = encode_frame(encode_envelope(Heartbeat(ack=0)))
    excerpt = (ROOT / "tests" / "vectors" / "directory" / "consensus-excerpt").read_bytes()
    fingerprint = b"A" * 40
    return {
        "cells": cells,
        "cell_payloads": [
            b"\0" + params,
            b"\1" + info,
            b"\2" + extend2.encode(),
            b"\5" + relaycell.RelayCell(2, 1, b"data").encode(),
        ],
        "certificates": [certs, *certs_cell.parse_certs(certs).values()],
        "handshake": [b"\0" + cells[0], b"\xff" + cells[0]],
        "frames": [b"\0" + greeting + beat + data, b"\xff" + welcome + beat + data],
        "client_hello": [client_hello(), client_hello("a.b.flashflow.invalid")],
        "control_lines": [
            b"PROTOCOLINFO 1\nGETINFO version\nSETEVENTS FF_MEAS CIRC\n",
            b"FF_STOP 1",
            b"MEASR_START_MEAS 1 " + fingerprint + b" 2 30 RATE=9 WARMUP=2 MODE=echo TOKEN=" + b"0" * 32,
            b"COORD_START_MEAS 1 " + fingerprint + b" 30 ADDR=127.0.0.1:1 MEASURER=" + b"0" * 32 + b"@::1/4",
        ],
        "control_events": [
            b"FF_MEAS BW_REPORT 1 SECOND=1 SENT=2 RECV=3",
            b"FF_MEAS PARAMS_OK 1 ACCEPTED=0 REASON=REFUSED_BUSY",
            b"FF_MEAS END 1 SUCCESS=1",
            b"CIRC 7 FAILED REASON=LINK_FAILED",
        ],
        "ctrl_lines": [b"measure relay1 wait\nstatus\nschedule slot 3\nresults relay2\ncancel 1"],
        "ctrl_replies": [b'OK {"a": 1}\n', b'EVENT {"event": "done"}\n', b'ERR {"error": "no"}\n'],
        "relay_filter": [
            b"# comment\ndeny nick:bad\nallow net:10.0.0.0/8 mode=echo rate=50\nallow " + fingerprint,
            b"allow family:" + fingerprint + b" mode=echo\nallow " + fingerprint + b" mode=loop\ndeny *\n",
        ],
        "consensus": [excerpt[:20_000] + b"directory-footer\n"],
        "descriptors": [descriptor_seed()],
    }


def descriptor_seed() -> bytes:
    """A descriptor as the reference relay writes it."""
    text = build_server_descriptor(
        relay_keys(),
        nickname="relay1",
        address="127.0.0.1",
        or_port=9001,
        bandwidth_avg=1_000_000,
        bandwidth_burst=1_000_000,
        bandwidth_observed=500_000,
        published_utc_s=NOW_UTC_S,
        ipv6=("::1", 9001),
        family=("$" + "A" * 40,),
    )
    return text.encode()


def main() -> None:
    """Write them; what is there already stays."""
    for target, inputs in seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
