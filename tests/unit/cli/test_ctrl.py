"""`flashflow ctrl` as it is typed: text, JSON and exit status of each command."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flashflow.cli import main
from support.scripted_ctrl import ScriptedCtrl

FP = "A" * 40

RESULT = {
    "meas_id": 7,
    "fingerprint": FP,
    "nickname": "relay1",
    "mode": "echo",
    "started_utc_s": 1_700_000_000.0,
    "active_utc_s": 1_700_000_003.5,
    "ended_utc_s": 1_700_000_014.0,
    "duration_s": 10,
    "outcome": "ok",
    "result_bytes": 1_000_000,
    "background_bytes": 125_000,
    "allocated_bytes": 3_000_000,
    "accepted": True,
    "team_limited": False,
    "failure": None,
}
SESSION = {
    "phase": "open",
    "connections": 3,
    "pending": 2,
    "waits_s": 0.1,
    "delivered": 5,
    "resent": 1,
    "not_delivered": 0,
    "received": 9,
    "repeated": 1,
    "denied": 0,
}
PLANNED = {
    "fingerprint": FP,
    "nickname": "relay1",
    "mode": "loop",
    "rate_bytes": 2_500_000,
    "team_limited": False,
    "measurers": [
        {"name": "m1", "rate_bytes": 1_500_000, "n_circs": 4},
        {"name": "m2", "rate_bytes": 1_000_000, "n_circs": 5},
    ],
}
SLOT = {
    "slot": 7,
    "starts_utc_s": 1_700_000_060.0,
    "relays": 1,
    "rate_bytes": 2_500_000,
    "free_bytes": 125_000,
}
FAILED = {
    **RESULT,
    "outcome": "failed",
    "result_bytes": None,
    "background_bytes": None,
    "accepted": False,
    "failure": {"kind": "peer", "fault": "relay", "reason": "the relay closed", "forged": False},
}
ANSWERS: dict[str, Any] = {
    "status": {
        "version": "0.1.0",
        "state": "ready",
        "uptime_s": 12.3,
        "tor_client": "up",
        "measurers": 2,
        "relays": 1,
        "measurements": [
            {"meas_id": 7, "fingerprint": FP, "nickname": "relay1", "phase": "ACTIVE", "elapsed_s": 4.0}
        ],
        "queued": 0,
        "next_slot_utc_s": 1_700_000_060.0,
        "v3bw": None,
    },
    "measurers": {
        "measurers": [
            {
                "name": "m1",
                "connected": True,
                "leaving": False,
                "host": "::1",
                "capacity_bytes": 125_000_000,
                "free_bytes": 0,
                "measurements": [7],
                "session": SESSION,
            },
            {
                "name": "m2",
                "connected": False,
                "leaving": False,
                "host": None,
                "capacity_bytes": None,
                "free_bytes": None,
                "measurements": [],
                "session": None,
            },
            {
                "name": "m3",
                "connected": True,
                "leaving": True,
                "host": "::1",
                "capacity_bytes": 125_000_000,
                "free_bytes": 0,
                "measurements": [],
                "session": SESSION,
            },
        ]
    },
    "relays": {
        "relays": [
            {
                "fingerprint": FP,
                "nickname": "relay1",
                "address": "[::1]:9001",
                "mode": "echo",
                "measurable": True,
                "result_bytes": None,
                "result_utc_s": None,
                "accepted": None,
                "failures": 2,
                "relay_failures": 3,
                "forgeries": 1,
                "excluded": True,
            }
        ]
    },
    "results": {"results": [RESULT, FAILED]},
    f"results {FP}": {"results": []},
    "schedule": {
        "period_start_utc_s": 1_699_999_640.0,
        "slot_s": 60,
        "n_slots": 1440,
        "slot": 6,
        "strategy": "uniform",
        "planned": 3,
        "done": 2,
        "waiting": 1,
        "unplaced": 0,
        "split_groups": [{"members": [FP, "B" * 40], "slots": 2}],
        "slots": [SLOT],
    },
    "schedule slot 7": {**SLOT, "measurements": [PLANNED]},
    "schedule relay relay1": {
        "fingerprint": FP,
        "nickname": "relay1",
        "estimate_bytes": 1_000_000,
        "estimate_is_ours": False,
        "begun": 1,
        "done": False,
        "measurements": [{"slot": 7, "starts_utc_s": 1_700_000_060.0, **PLANNED}],
    },
    "pipeline": {
        "stages": [
            {
                "stage": "inspect",
                "entered": 21,
                "passed": 13,
                "failed": 3,
                "retried": 2,
                "set_aside": 1,
                "handed_back": 0,
                "waiting": 6,
                "in_work": 1,
            }
        ],
        "set_aside": [{"stage": "inspect", "fingerprint": FP, "reason": "no outcome", "tries": 3}],
    },
    "v3bw": {"path": "/tmp/v3bw", "relays": 3},
    "measure relay1": {"meas_id": 7, "fingerprint": FP, "nickname": "relay1"},
    "cancel 7": {"meas_id": 7},
}

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs `flashflow ctrl WORDS` against a coordinator that answers as above, or by `answers`."""
    started: list[ScriptedCtrl] = []

    def start(*words: str, answers: dict[str, bytes] | None = None) -> int:
        lines = {command: f"OK {json.dumps(body)}\n".encode() for command, body in ANSWERS.items()}
        server = ScriptedCtrl(tmp_path, {**lines, **(answers or {})})
        started.append(server)
        return main(["ctrl", *server.options, *words])

    yield start
    for server in started:
        server.close()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            "status",
            ["state      ready", "up         12 s", "ACTIVE", "2023-11-14 22:14:20", "not written yet"],
        ),
        (
            "measurers",
            [
                "m1    connected  ::1   1000.0   0.0        2            3  7",
                "m2    away       -          -     -        0            0",
                "m3    leaving    ::1   1000.0   0.0        2            3",
            ],
        ),
        (
            "relays",
            [
                f"relay1    {FP}  [::1]:9001  echo       -  -               excluded         2         3       1"
            ],
        ),
        ("results", ["8.0", "1.0", "24.0", "ok", "peer: the relay closed"]),
        (f"results {FP}", ["no result yet"]),
        (
            "schedule",
            [
                "slot 6 of 1440 (60 s each), uniform: 3 planned, 2 done, 1 waiting, 0 unplaced",
                "2 co-located relays are in 2 slots",
                "7  2023-11-14 22:14:20       1    20.0   1.0",
            ],
        ),
        (
            "schedule --slot 7",
            ["slot 7, 2023-11-14 22:14:20 UTC: 1 relays, 1.0 Mbit/s free", "m1:12.0/4 m2:8.0/5"],
        ),
        (
            "schedule --relay relay1",
            ["estimate 8.0 Mbit/s (not our own result), 1 measurements begun", "slot 7, 2023", "m1:12.0/4"],
        ),
        ("pipeline", ["inspect       21      13       3", f"{FP}  inspect      3  no outcome"]),
        ("v3bw", ["/tmp/v3bw (3 relays)"]),
        ("measure relay1", [f"measurement 7 of relay1 ({FP}) is to be made"]),
        ("cancel 7", ["measurement 7 is being cancelled"]),
    ],
)
def test_each_command_reads_well_and_has_json(
    run: Run, capsys: pytest.CaptureFixture[str], words: str, shown: list[str]
) -> None:
    assert run(*words.split()) == 0
    out = capsys.readouterr().out
    for text in shown:
        assert text in out
    assert "\x1b" not in out
    assert run(*words.split(), "--json") == 0
    assert json.loads(capsys.readouterr().out) == ANSWERS[words.replace("--", "")]


def measured(done: dict[str, Any]) -> dict[str, bytes]:
    events = [
        {"event": "phase", "meas_id": 7, "phase": "ACTIVE"},
        {
            "event": "second",
            "meas_id": 7,
            "second": 1,
            "measured_bytes": 875_000,
            "background_bytes": 125_000,
            "total_bytes": 1_000_000,
        },
        {"event": "done", **done},
    ]
    begun = json.dumps({"meas_id": 7, "fingerprint": FP, "nickname": "relay1"})
    text = f"OK {begun}\n" + "".join(f"EVENT {json.dumps(event)}\n" for event in events)
    return {"measure relay1 wait": text.encode()}


def test_wait_shows_each_second_and_the_result(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("measure", "relay1", "--wait", answers=measured(RESULT)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "relay1: active",
        "relay1: second   1: 8.0 Mbit/s (measured 7.0, background 1.0)",
        f"relay1 ({FP}): 8.0 Mbit/s, background 1.0, allocated 24.0, 10 s",
    ]


def test_a_failed_measurement_is_exit_status_1(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("measure", "relay1", "--wait", answers=measured(FAILED)) == 1
    assert capsys.readouterr().out.endswith("failed (peer): the relay closed\n")
    assert run("measure", "relay1", "--wait", "--json", answers=measured(FAILED)) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"event": "done", **FAILED}


def test_a_result_too_near_to_the_allocation_is_called_a_lower_bound(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("measure", "relay1", "--wait", answers=measured({**RESULT, "accepted": False})) == 0
    assert "a lower bound" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer",
    [
        b'OK {"relays": 1}\n',
        b'OK {"relays": [{}]}\n',
        b"OK {}\n",
        b'OK {"relays": [{"result_utc_s": 1e99}]}\n',
    ],
)
def test_an_answer_of_another_form_is_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    assert run("relays", answers={"relays": answer}) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_names_from_outside_cannot_steer_the_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    relay = {**ANSWERS["relays"]["relays"][0], "nickname": "\x1b[2J[bold]x"}
    answer = f"OK {json.dumps({'relays': [relay]})}\n".encode()
    assert run("relays", answers={"relays": answer}) == 0
    assert "?[2J[bold]x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["measure"], "flashflow ctrl: Missing argument 'RELAY' (see flashflow ctrl measure --help)"),
        (["measur"], "flashflow ctrl: No such command 'measur'"),
        (["measure", "a b"], "flashflow ctrl: not a word that a command may have: 'a b'"),
        (["cancel", "seven"], "flashflow ctrl: Invalid value for 'ID'"),
        (
            ["schedule", "--slot", "1", "--relay", "x"],
            "flashflow ctrl: --slot and --relay: expected one of them",
        ),
        (["status", "--xml"], "flashflow ctrl: No such option: --xml"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_status_2(
    run: Run, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    assert run(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(error)
    assert shown.err.count("\n") == 1


def test_a_refusal_is_one_line_and_exit_status_1(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"measure nobody": b'ERR {"error": "no such relay: nobody"}\n'}
    assert run("measure", "nobody", answers=refused) == 1
    assert capsys.readouterr().err == "flashflow ctrl: no such relay: nobody\n"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctrl"]) == 0
    assert "measurers" in capsys.readouterr().out
