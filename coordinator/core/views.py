"""What controllers are shown: plain JSON objects (docs/protocol.md, "Control socket")."""

from typing import Any

from coordinator.core.measurement import RUNNING
from coordinator.core.state import State
from flashflow.model.clock import Now
from flashflow.model.relay import RelayInfo
from flashflow.model.results import Failure, MeasurementRecord


def result_view(record: MeasurementRecord) -> dict[str, Any]:
    """A measurement that ended."""
    failure = record.failure
    return {
        "meas_id": record.meas_id,
        "fingerprint": record.fingerprint,
        "nickname": record.nickname,
        "mode": record.mode,
        "started_utc_s": record.started_utc_s,
        "active_utc_s": record.active_utc_s,
        "ended_utc_s": record.ended_utc_s,
        "duration_s": record.duration_s,
        "outcome": "failed" if record.result_bytes is None else "ok",
        "result_bytes": record.result_bytes,
        "background": "unknown" if record.mode == "loop" else "reported",
        "background_bytes": record.background_bytes,
        "allocated_bytes": record.allocated_bytes,
        "accepted": record.accepted,
        "team_limited": record.team_limited,
        "failure": failure_view(failure),
    }


def failure_view(failure: Failure | None) -> dict[str, Any] | None:
    """Why a measurement failed."""
    if failure is None:
        return None
    return {
        "kind": failure.kind,
        "fault": failure.fault,
        "reason": failure.reason,
        "forged": failure.forged,
    }


def status_view(state: State, now: Now) -> dict[str, Any]:
    """The service at a glance."""
    return {
        "version": state.params.version,
        "state": "draining" if state.draining else "ready" if state.tor_up and state.relays else "starting",
        "uptime_s": round(now.mono_s - state.started_mono_s, 1),
        "tor_client": "up" if state.tor_up else "down",
        "measurers": len(state.connected_team()),
        "relays": len(state.relays),
        "relays_error": state.relays_error,
        "measurements": [
            {
                "meas_id": meas.meas_id,
                "fingerprint": meas.relay.fingerprint,
                "nickname": meas.relay.nickname,
                "phase": meas.phase.value,
                "elapsed_s": round(now.mono_s - meas.begun.mono_s, 1),
            }
            for meas in state.measurements.values()
        ],
        "queued": len(state.queue),
        "next_slot_utc_s": state.next_slot_utc_s,
        "v3bw": state.v3bw_path,
    }


def measurers_view(state: State) -> dict[str, Any]:
    """The team."""
    rows = [
        {
            "name": name,
            "connected": state.team[name].connected,
            "leaving": state.team[name].connected and state.team[name].leaving,
            "host": state.team[name].host,
            "capacity_bytes": state.team[name].capacity_bytes,
            "free_bytes": state.free_bytes(name),
            "measurements": [
                meas.meas_id
                for meas in state.measurements.values()
                if name in meas.shares and meas.phase in RUNNING
            ],
        }
        for name in sorted(state.team)
    ]
    return {"measurers": rows}


def relays_view(state: State) -> dict[str, Any]:
    """The relays that the filter names."""
    return {"relays": [_relay_row(state, relay) for relay in state.relays.values() if _allowed(state, relay)]}


def _allowed(state: State, relay: RelayInfo) -> bool:
    rule = state.rules.get(relay.fingerprint)
    return rule is not None and rule.allow


def _relay_row(state: State, relay: RelayInfo) -> dict[str, Any]:
    known = state.results.get(relay.fingerprint)
    standing = state.standings.get(relay.fingerprint)
    rule = state.rules.get(relay.fingerprint)
    return {
        "fingerprint": relay.fingerprint,
        "nickname": relay.nickname,
        "address": str(relay.address),
        "mode": rule.mode if rule else None,
        "measurable": relay.measurable,
        "result_bytes": known.result_bytes if known else None,
        "result_utc_s": known.ended_utc_s if known else None,
        "accepted": known.accepted if known else None,
        "failures": state.failures.get(relay.fingerprint, 0),
        "relay_failures": standing.relay_failures if standing else 0,
        "forgeries": standing.forgeries if standing else 0,
        "excluded": standing is not None and standing.excluded,
    }
