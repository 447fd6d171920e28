"""Puts the coordinator together on one loop: inputs -> core -> outputs."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.handle import Coordinator
from coordinator.core.params import Params
from coordinator.inputs.ctrl_server import CtrlServer, make_cookie
from coordinator.inputs.relay_pipeline import RelayPipeline, RelayPipelineSettings
from coordinator.outputs.relays import relay_source
from coordinator.outputs.store_thread import StoreThread, stored_progress
from flashflow import __version__
from flashflow.config.coord import CoordConfig
from flashflow.model.errors import LocalError
from flashflow.shell.files import lock_datadir, make_private_dir, write_private
from flashflow.shell.loop import Loop, read_clocks
from flashflow.shell.parent import own_command
from flashflow.shell.refusals import RefusalLog
from flashflow.shell.sessions import PeerGone, PeerJoined, PeerMessage, PeerRefused, SessionServer
from flashflow.shell.signals import StopSignals
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.shell.toroutput import TorOutput
from flashflow.store.store import Store
from flashflow.torctl.client import SendTorCommand
from flashflow.wire.events import NotDelivered

SECRET_BYTES = 32
SHOWN_UNDELIVERED = 5
"""A line in the log names so many messages that were not delivered."""
FAILURES_WITHIN_S = 7 * 86400
"""Failures this recent are counted per relay."""

log = logging.getLogger(__name__)


def params_of(config: CoordConfig) -> Params:
    """The core's view of the configuration; decimal fractions become exact ones."""
    return Params(
        duration_s=config.meas_duration_s,
        warmup_s=config.warmup_s,
        background_ratio=Fraction(str(config.bg_percent)),
        slot_s=config.slot_s,
        period_s=config.period_s,
        multiplier=Fraction(str(config.multiplier)),
        multiplier_known=Fraction(str(config.multiplier_known)),
        epsilon1=Fraction(str(config.epsilon1)),
        epsilon2=Fraction(str(config.epsilon2)),
        strategy=config.strategy,
        colocation=config.co_location,
        deployment=config.deployment,
        deployments=config.deployments,
        v3bw_interval_s=config.v3bw_interval_s,
        directory_refresh_s=config.refresh_s,
        version=__version__,
    )


def pipeline_settings(config: CoordConfig) -> RelayPipelineSettings:
    """The pipeline's view of the configuration."""
    return RelayPipelineSettings(
        workers=config.pipeline_workers,
        queue_bound=config.pipeline_queue,
        tries=config.pipeline_tries,
        retry_after_s=config.pipeline_retry_after_s,
        timeout_s=config.pipeline_timeout_s,
        join_timeout_s=config.pipeline_stop_timeout_s,
    )


class CoordinatorService:
    """One run of the coordinator."""

    def __init__(self, config: CoordConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._tasks = TaskGroupOfNamed(self._bug)
        self._core = Coordinator(params_of(config))
        self._refusals = RefusalLog(time.monotonic)
        self._ctrl = CtrlServer(make_cookie(config.datadir), self._post, self._refusals)
        self._sessions = SessionServer(
            key_file=config.key,
            peers_dir=config.keydir,
            on_event=self._on_session,
            on_undelivered=self._on_undelivered,
        )
        self._thread = StoreThread(
            store,
            v3bw=config.v3bw,
            max_age_s=config.max_results_age_s,
            keep_s=config.v3bw_keep_s,
            publish_loop_results=config.publish_loop_results,
            version=__version__,
            post=self._post,
        )
        self._tor = TorOutput(tor_command(config), config.tor_datadir / "control", self._tasks, self._post)
        self._relays = relay_source(config, self._tasks, self._on_relays)
        self._pipeline = RelayPipeline(pipeline_settings(config), self._post)
        self._loop = Loop(self._core, self._outputs())

    async def run(self) -> int:
        """Until a signal has drained it; returns the exit status. Raises LocalError if it cannot start."""
        started = self._started()
        asyncio.get_running_loop().set_exception_handler(self._on_exception)
        signals = StopSignals(lambda: self._post(ev.StopRequested()))
        try:
            measurers = await self._sessions.start(self._config.listen_addr)
            controllers = await self._ctrl.start(self._config.ctrl_addr)
            self._post(started)
            self._pipeline.start()
            self._tasks.start("tor client", self._tor.run())
            self._tasks.start("directory", self._relays.run())
            print(f"ready measurers={measurers} ctrl={controllers}", flush=True)
            await self._loop.run()
        finally:
            await self._ctrl.close()
            await self._sessions.close()
            await self._tasks.cancel_all()
            await self._pipeline.stop()
            await self._thread.close()
        return signals.exit_status

    def _post(self, event: object) -> None:
        self._loop.post(event)

    def _on_relays(self, event: ev.RelaysLoaded | ev.RelaysFailed) -> None:
        self._post(event)
        if isinstance(event, ev.RelaysLoaded):
            self._pipeline.observe(event)

    def _show_pipeline(self, effect: do.ShowPipeline) -> None:
        self._ctrl.send(do.SendToCtrl(effect.conn, "OK", self._pipeline.view()))

    def _show_measurers(self, effect: do.ShowMeasurers) -> None:
        figures = self._sessions.figures()
        rows = [
            {**row, "session": asdict(figures[row["name"]]) if row["name"] in figures else None}
            for row in effect.team["measurers"]
        ]
        self._ctrl.send(do.SendToCtrl(effect.conn, "OK", {"measurers": rows}))

    def _bug(self, error: BaseException) -> None:
        self._loop.fail(error)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """The last-chance handler: an exception that reached it is a bug, unless a transport's own network error."""
        error = context.get("exception")
        if isinstance(error, OSError):  # ssl.SSLError too; the connection's owner hears of it by itself
            log.debug("%s: %s", context.get("message"), error)
        elif isinstance(error, BaseException):
            self._bug(error)
        else:
            log.warning("%s", context.get("message"))

    def _started(self) -> ev.Started:
        now = read_clocks()
        failures = self._store.failure_counts(now.utc_s - FAILURES_WITHIN_S)
        return ev.Started(
            seed=secrets.token_bytes(32),
            results=tuple(self._store.latest_results(0.0)),
            failures=tuple(failures.items()),
            progress=stored_progress(self._store),
            plan=tuple(self._store.plan()),
            secret=read_secret(self._config.schedule_secret),
            standings=tuple(self._store.standings().values()),
        )

    def _outputs(self) -> dict[type, Callable[..., object]]:
        return {
            do.SendToMeasurer: lambda effect: self._sessions.send(effect.name, effect.message),
            SendTorCommand: self._tor.send,
            do.SendToCtrl: self._ctrl.send,
            do.CloseCtrl: self._ctrl.close_conn,
            do.SaveMeasurement: self._thread.save_measurement,
            do.SaveProgress: self._thread.save_progress,
            do.AnswerOffer: self._pipeline.answer,
            do.ShowPipeline: self._show_pipeline,
            do.ShowMeasurers: self._show_measurers,
            do.ReadResults: self._thread.read_results,
            do.WriteV3bw: self._thread.write_v3bw,
            do.LoadRelays: lambda effect: self._relays.load(),
            do.Log: lambda effect: log.log(effect.level, "%s", effect.text),
            do.LogRefusal: lambda effect: self._refusals.refused(
                "message", f"measurer {effect.name}", effect.reason
            ),
            do.StopService: lambda effect: self._loop.stop(),
        }

    def _on_session(self, event: object) -> None:
        match event:
            case PeerJoined(name=name, capacity_bytes=capacity_bytes, host=host):
                self._post(ev.MeasurerJoined(name, capacity_bytes, host))
            case PeerMessage(name=name, message=message):
                self._post(ev.MeasurerSaid(name, message))
            case PeerGone(name=name, reason=reason, undelivered=undelivered):
                self._post(ev.MeasurerGone(name, reason + told_in_words(undelivered)))
            case PeerRefused(host=host, reason=reason, what=what):
                self._refusals.refused(what, host, reason)

    def _on_undelivered(self, name: str, notice: NotDelivered) -> None:
        self._refusals.warn(f"{notice.message.type} for {name} not delivered: {notice.reason}")


def told_in_words(undelivered: Sequence[NotDelivered]) -> str:
    """What a measurer that is gone did not take over, behind the reason."""
    if not undelivered:
        return ""
    names = [
        f"{notice.message.type} {getattr(notice.message, 'meas_id', '')} ({'not sent' if notice.certain else 'unknown'})"
        for notice in undelivered[:SHOWN_UNDELIVERED]
    ]
    more = f" and {len(undelivered) - len(names)} more" if len(undelivered) > len(names) else ""
    return f"; not delivered: {', '.join(names)}{more}"


def tor_command(config: CoordConfig) -> list[str]:
    """The command line of the coordinator's Tor client."""
    return own_command(
        "torclient",
        "--data-dir",
        str(config.tor_datadir),
        "--tls-key",
        str(config.key),
        "--workers",
        "1",
    )


def read_secret(path: Path) -> bytes:
    """The secret of 32 bytes in the file at `path`, in hexadecimal; made if it is missing. Raises LocalError."""
    if not path.exists():
        write_private(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n")
    try:
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else "not that"
        raise LocalError(f"{path}: expected {2 * SECRET_BYTES} hexadecimal digits: {detail}") from None
    if len(secret) != SECRET_BYTES:
        raise LocalError(f"{path}: expected {2 * SECRET_BYTES} hexadecimal digits, got {2 * len(secret)}")
    return secret


def prepare(config: CoordConfig) -> tuple[object, Store]:
    """Directories, the lock of the data directory, which the caller keeps, the store. Raises LocalError."""
    for path in (config.datadir, config.keydir, config.resultsdir, config.tor_datadir):
        make_private_dir(path)
    if config.starts_directory_tor:
        make_private_dir(config.directory_tor_datadir)
    lock = lock_datadir(config.datadir, "coordinator")
    return lock, Store.open(config.database)
