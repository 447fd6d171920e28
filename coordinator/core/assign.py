"""Starts what fits: one pass over the queue, giving each measurement its measurers, rates and circuits."""

from base64 import b64encode
from collections.abc import Collection
from dataclasses import asdict
from heapq import nlargest
from ipaddress import ip_address
from math import ceil

from coordinator.core import effects as do
from coordinator.core.effects import Effect
from coordinator.core.estimate import Estimate
from coordinator.core.events import ProgressStored
from coordinator.core.finish import move_on, tell_watchers
from coordinator.core.measurement import Measurement, Phase, Share, Trigger
from coordinator.core.planning import count_run, done_with, may_run
from coordinator.core.state import Measurer, Request, State
from flashflow.model.circuits import echo_circuits, loop_circuits
from flashflow.model.clock import Now
from flashflow.model.ids import Mode
from flashflow.model.network import NetworkLimits, network_limits
from flashflow.model.relay import RelayInfo
from flashflow.torctl import commands
from flashflow.torctl.client import SendTorCommand
from flashflow.wire import messages as wire

ASSUMED_ROUND_TRIP_S = 0.1
"""For the number of circuits only; windows follow the round trip that is seen."""
LAUNCH_TIMEOUT_S = 5.0
MAX_MEASURERS = commands.MAX_MEASURERS


def start_what_fits(state: State, now: Now) -> list[Effect]:
    """Start waiting measurements in order, until one has to wait for capacity.

    One that waits for the Tor client, or for another measurement of its relay to end, holds up nobody else.
    """
    if state.draining or not state.queue:
        return []
    effects: list[Effect] = []
    free = {measurer.name: state.free_bytes(measurer.name) for measurer in state.connected_team()}
    measured = {meas.relay.fingerprint for meas in state.measurements.values()}
    for request in list(state.queue):
        if request.scheduled and not may_run(state, request.fingerprint):
            state.queue.remove(request)  # a controller has had it measured meanwhile
            done_with(state, request.fingerprint)
            continue
        if (request.mode == "echo" and not state.tor_up) or request.fingerprint in measured:
            continue
        planned = request.rates
        rates = (
            allocate(state, request, free)
            if planned is None
            else _as_scheduled(state, request, planned, free)
        )
        if not rates:
            break
        for name, rate in rates.items():
            free[name] -= rate
        measured.add(request.fingerprint)
        state.queue.remove(request)
        effects += _start(state, request, rates, now)
    return effects


def _as_scheduled(
    state: State, request: Request, planned: dict[str, int], free: dict[str, int]
) -> dict[str, int]:
    """What the schedule gives, if it is there and free; empty if the measurement has to wait.

    Less if the filter's limit has fallen since the slot was chosen.
    """
    limit, total = state.rules[request.fingerprint].rate_limit_bytes, sum(planned.values())
    rates = planned
    if limit is not None and limit < total:
        request.limited = True
        rates = {name: less for name, rate in planned.items() if (less := rate * limit // total)}
    return rates if all(free.get(name, -1) >= rates[name] for name in rates) else {}


def allocate(state: State, request: Request, free: dict[str, int]) -> dict[str, int]:
    """Measurer -> cell bytes/s for this relay out of what is free; empty if it has to wait.

    f x estimate, or the whole team without an estimate; never more than the filter's rate limit for the relay. A relay
    is told of ten measurers at most (proposal 316, num_measurers), so of a larger team those with most room take part.
    """
    team = state.connected_team()
    capacity = sum(nlargest(MAX_MEASURERS, (measurer.capacity_bytes for measurer in team)))
    rooms = nlargest(MAX_MEASURERS, ((room, name) for name, room in free.items()))
    free = {name: room for room, name in sorted(rooms, key=lambda pair: pair[1])}
    wanted = min(capacity, _wanted_bytes(state, request, capacity))
    request.limited = wanted < _unlimited_bytes(state, request, capacity + 1)
    total_free = sum(free.values())
    if wanted <= 0 or total_free < wanted:
        return {}
    shares = {name: wanted * of_one // total_free for name, of_one in free.items()}
    return {name: rate for name, rate in shares.items() if rate > 0}


def _wanted_bytes(state: State, request: Request, capacity: int) -> int:
    wanted = _unlimited_bytes(state, request, capacity)
    rule = state.rules.get(request.fingerprint)
    limit = rule.rate_limit_bytes if rule else None
    return min(wanted, limit) if limit else wanted


def _unlimited_bytes(state: State, request: Request, otherwise: int) -> int:
    """f x our own accepted result, or `otherwise` where there is none."""
    estimate = state.estimates.get(request.fingerprint)
    if estimate is None or not estimate.ours:
        return otherwise
    return ceil(estimate.rate_bytes * state.params.factor(ours=True))


def _start(state: State, request: Request, rates: dict[str, int], now: Now) -> list[Effect]:
    relay = state.relays[request.fingerprint]
    shares = {
        name: _share(state, state.team[name], request.mode, rate, rates) for name, rate in rates.items()
    }
    meas = Measurement(
        request.meas_id,
        relay,
        request.mode,
        now,
        request.scheduled,
        shares,
        _loaded_for(state, request, sum(rates.values())),
        request.limited,
        watchers=request.watchers,
    )
    state.measurements[meas.meas_id] = meas
    count_run(state, relay.fingerprint)
    state.unsaved = True
    meas.set_deadline(now, state.params)
    return tell_watchers(meas, {"event": "phase", "meas_id": meas.meas_id, "phase": meas.phase.value})


def _loaded_for(state: State, request: Request, allocated_bytes: int) -> Estimate:
    """The estimate that the load goes by: what is known now, unless less was known when the slot was chosen."""
    known = state.estimates[request.fingerprint]
    rounded = MAX_MEASURERS  # a byte for each share
    wanted = known.rate_bytes * state.params.factor(ours=known.ours)
    if request.rates is None or request.limited or allocated_bytes + rounded >= wanted:
        return known
    return Estimate(ceil(allocated_bytes / state.params.factor(ours=False)), ours=False)


def on_progress_stored(state: State, event: ProgressStored, now: Now) -> list[Effect]:
    """It is on disk that these measurements begin: if this process ends, the next one knows of them."""
    effects: list[Effect] = []
    for meas in map(state.measurements.get, event.in_work):
        if meas is not None and meas.phase is Phase.RECORDING:
            effects += _set_up(state, meas, now)
    return effects


def _set_up(state: State, meas: Measurement, now: Now) -> list[Effect]:
    relay = meas.relay
    begins = do.info(
        f"measurement {meas.meas_id} of {relay.nickname} {relay.fingerprint} begins ({meas.mode})"
    )
    if meas.mode == "echo":
        return [begins, *move_on(state, meas, Trigger.LAUNCH, now), *_launch(state, meas)]
    return [begins, *move_on(state, meas, Trigger.CONNECT, now), *connect_all(state, meas)]


def _launch(state: State, meas: Measurement) -> list[Effect]:
    effect_id = state.new_id()
    state.tor_commands[effect_id] = (meas.meas_id, "launch")
    return [SendTorCommand(effect_id, _launch_line(state, meas, meas.relay), LAUNCH_TIMEOUT_S)]


def connect_all(state: State, meas: Measurement) -> list[Effect]:
    """Ask each measurer of the measurement to build its circuits."""
    return [do.SendToMeasurer(name, _connect(state, meas, name)) for name in meas.shares]


def _connect(state: State, meas: Measurement, name: str) -> wire.ConnectToRelay:
    share, relay = meas.shares[name], meas.relay
    return wire.ConnectToRelay(
        meas_id=meas.meas_id,
        fp=relay.fingerprint,
        n_circs=share.n_circs,
        dur_s=state.params.duration_s,
        warmup_s=state.params.warmup_s,
        rate_bytes=share.allocated_bytes,
        mode=meas.mode,
        relay_addr=str(relay.address),
        ed25519=b64encode(relay.ed25519 or b"").decode(),
        ntor=b64encode(relay.ntor_key or b"").decode(),
        token=share.token.hex(),
        limits=_wire_limits(_loop_limits(state, share.host, meas.shares)) if meas.mode == "loop" else None,
    )


def _loop_limits(state: State, host: str, names: Collection[str]) -> NetworkLimits:
    """What a measurer at `host` may do to a relay: the relay sees those of one address as one."""
    together = sum(state.team[name].host == host for name in names)
    return network_limits(state.header.params).shared_by(together)


def _wire_limits(limits: NetworkLimits) -> wire.LoopLimits:
    return wire.LoopLimits(**asdict(limits))


def _share(state: State, measurer: Measurer, mode: Mode, rate_bytes: int, names: Collection[str]) -> Share:
    n_circs = circuits_of(state, mode, measurer.name, rate_bytes, names)
    return Share(measurer.name, measurer.host, rate_bytes, n_circs, state.draw.take("token", 16))


def circuits_of(state: State, mode: Mode, name: str, rate_bytes: int, names: Collection[str]) -> int:
    """How many circuits the measurer `name` builds for its share of a measurement by the measurers `names`."""
    if mode == "echo":
        return echo_circuits(rate_bytes, ASSUMED_ROUND_TRIP_S, len(names))
    limits = _loop_limits(state, state.team[name].host, names)
    return loop_circuits(rate_bytes, ASSUMED_ROUND_TRIP_S, limits)


def announced_host(measurer_host: str, relay_host: str) -> str:
    """Where the relay is told to expect a measurer that has its session from `measurer_host`: zeros for anywhere.

    The address of the session says nothing of where the relay will see the measurer if only one of them is on this
    host, or if they are of different families.
    """
    try:
        measurer, relay = ip_address(measurer_host), ip_address(relay_host)
    except ValueError:  # a session without an address, a consensus with a name
        return "0.0.0.0"
    if measurer.version == relay.version and measurer.is_loopback == relay.is_loopback:
        return measurer_host
    return "0.0.0.0" if measurer.version == 4 else "::"


def _launch_line(state: State, meas: Measurement, relay: RelayInfo) -> str:
    assert relay.ed25519 is not None  # checked when it was requested
    assert relay.ntor_key is not None
    return commands.CoordStart(
        meas_id=meas.meas_id,
        fingerprint=relay.fingerprint,
        dur_s=state.params.warmup_s + state.params.duration_s,
        target=commands.Target(relay.address, relay.ed25519, relay.ntor_key),
        measurers=tuple(
            commands.MeasurerToken(share.token, announced_host(share.host, relay.address.host), share.n_circs)
            for share in meas.shares.values()
        ),
    ).line()
