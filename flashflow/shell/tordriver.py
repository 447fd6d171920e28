"""Drives a Tor client process over its control socket: the one place that talks to one through stem.

stem is synchronous and its `msg()` has no time-out, so it lives in threads of its own: a command waits in an executor,
and one that takes too long costs the controller, which is replaced. Events cross over with `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import stem
import stem.control

from flashflow.model.errors import LocalError
from flashflow.shell.torcontrol import ControlPlace, close_controller, open_controller
from flashflow.torctl.stem_events import FF_MEAS, from_stem, register

START_S: Final = 20.0
"""Longest wait for the control socket and authentication."""
ATTACH_S: Final = 3.0
"""The same for a tor that runs already."""
STOP_S: Final = 3.0
"""How long SIGTERM is given before SIGKILL."""


@dataclass(frozen=True, slots=True)
class TorReply:
    """What tor answered to a command."""

    ok: bool
    """Whether it is a 250."""
    code: str
    """Status code; empty if there was no answer."""
    text: str
    """The reply's lines, joined by LF, without codes; or why there is none."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which of tor's events are wanted, and as what."""

    names: tuple[str, ...]
    """As in SETEVENTS."""
    convert: Callable[[Any], object | None]
    """stem's event -> ours, or None to leave it out; called on stem's thread."""


MEASUREMENT_EVENTS = Subscription((FF_MEAS, "CIRC"), from_stem)
"""`torctl.events` and `EventError`s."""


class TorDriver:
    """One Tor client process and the controller that drives it.

    `on_event` gets the events of the subscription, `on_lost` one line when the process or its control connection is
    gone without `close()`, `on_replaced` one line when another control connection has taken that one's place, and what
    was begun on it has ended; all are called on the loop. `name` says in messages which Tor client it is.
    """

    def __init__(
        self,
        *,
        control_socket: ControlPlace,
        on_event: Callable[[object], None],
        on_lost: Callable[[str], None],
        on_replaced: Callable[[str], None] = lambda reason: None,
        subscription: Subscription = MEASUREMENT_EVENTS,
        name: str = "Tor client",
    ) -> None:
        self._place = control_socket
        self._subscription = subscription
        self._name = name
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_replaced = on_replaced
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._controller: stem.control.Controller | None = None
        self._executor = _executor()
        self._closing = False
        self._lost = False

    async def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Starts the process (call it on the main thread) and authenticates. LocalError if that fails.

        Without `argv` it drives a tor that runs already, and leaves it running.
        """
        register()
        self._loop = asyncio.get_running_loop()
        if argv:
            await self._spawn(argv, env)
        try:
            await self._connect(START_S if argv else ATTACH_S)
        except LocalError:
            await self.close()
            raise

    async def command(self, line: str, timeout_s: float = 10.0) -> TorReply:
        """Sends one command. Never raises for what tor does: no answer in time, or no tor, is `ok=False`."""
        controller = self._controller
        if controller is None or self._lost:
            return TorReply(ok=False, code="", text=f"the {self._name} is not running")
        send = partial(_send, controller, line)
        future = asyncio.get_running_loop().run_in_executor(self._executor, send)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            reason = f"the {self._name} did not answer within {timeout_s:g} s"
            if controller is self._controller:  # another late command may have replaced it
                await self._replace(reason)
            return TorReply(ok=False, code="", text=reason)
        except asyncio.CancelledError:
            if not future.cancelled():  # it is this call that is cancelled
                raise
            reason = f"the control connection to the {self._name} was replaced before this was sent"
            return TorReply(ok=False, code="", text=reason)

    async def close(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL if it does not follow."""
        self._closing = True
        self._drop_controller()
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._watcher is not None:
            await self._watcher
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _spawn(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        if isinstance(self._place, Path):
            with contextlib.suppress(FileNotFoundError):
                self._place.unlink()  # a stale socket of an earlier process must not be taken for this one's
        try:
            # A session of its own: Ctrl-C is for us, who end it when the measurements in work are over.
            self._process = await asyncio.create_subprocess_exec(*argv, env=dict(env), start_new_session=True)
        except OSError as exc:
            raise LocalError(f"cannot start the {self._name} {argv[0]}: {exc.strerror or exc}") from exc
        self._watcher = asyncio.create_task(self._watch(self._process), name="tor process")

    async def _connect(self, timeout_s: float) -> None:
        """A new controller, in a new thread."""
        loop = asyncio.get_running_loop()
        ended = self._process_ended
        open_ = partial(open_controller, self._place, wait_s=timeout_s, ended=ended, name=self._name)
        controller = await loop.run_in_executor(self._executor, open_)
        try:
            listen = partial(self._listen, controller)
            await asyncio.wait_for(loop.run_in_executor(self._executor, listen), timeout_s)
        except (stem.ControllerError, TimeoutError) as exc:
            raise LocalError(f"{self._name} at {self._place}: {str(exc) or 'no answer'}") from exc
        self._controller = controller

    def _listen(self, controller: stem.control.Controller) -> None:
        controller.add_event_listener(self._heard, *self._subscription.names)
        controller.add_status_listener(self._status_changed, spawn=False)

    async def _replace(self, reason: str) -> None:
        """stem's thread is stuck: leave it behind. A tor that does not answer the new one either is lost."""
        self._drop_controller()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = _executor()
        try:
            await self._connect(START_S / 4)
        except LocalError as exc:
            self._tell_lost(exc.reason)
        else:
            if not self._lost and not self._closing:
                self._on_replaced(reason)

    def _drop_controller(self) -> None:
        controller, self._controller = self._controller, None
        if controller is not None:
            # stem's close() joins its threads and takes its locks: not on the loop.
            threading.Thread(
                target=close_controller, args=(controller,), name="stem close", daemon=True
            ).start()

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        self._tell_lost(f"the {self._name} ended with status {status}")

    def _heard(self, event: Any) -> None:
        """On stem's event thread."""
        ours = self._subscription.convert(event)
        if ours is not None:
            self._call(partial(self._on_event, ours))

    def _status_changed(self, controller: Any, state: Any, _when: float) -> None:
        """On a thread of stem's."""
        if state == stem.control.State.CLOSED:
            self._call(partial(self._controller_closed, controller))

    def _controller_closed(self, controller: object) -> None:
        if controller is self._controller:
            self._tell_lost(f"the control connection to the {self._name} was closed")

    def _tell_lost(self, reason: str) -> None:
        if not self._lost and not self._closing:
            self._lost = True
            self._on_lost(reason)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="stem")


def _send(controller: stem.control.Controller, line: str) -> TorReply:
    try:
        reply = controller.msg(line)
    except stem.ControllerError as exc:
        return TorReply(ok=False, code="", text=f"the Tor client is gone: {exc}")
    content = reply.content()
    return TorReply(reply.is_ok(), content[-1][0], "\n".join(text for _, _, text in content))
