"""Drives the core: gives it events, carries out its effects on links, meters background traffic."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flashflow.model.clock import Now, TimerFired
from flashflow.model.errors import NetworkError
from flashflow.orlink.meas import MeasBg, Measurement
from flashflow.relay.core.background import BackgroundCap
from flashflow.relay.core.bucket import UNLIMITED_BYTES
from flashflow.relay.core.effects import (
    BeginMeasuring,
    Close,
    CloseLink,
    EndMeasuring,
    ReportBackground,
    Role,
    SaveAccepted,
    SendMeasurement,
    SetRole,
)
from flashflow.relay.core.events import Event
from flashflow.relay.core.state import State
from flashflow.relay.link import Link

log = logging.getLogger(__name__)


class Links(Protocol):
    """Whoever owns the links."""

    def find(self, number: int) -> Link | None:
        """The link of that number, if it still lives."""
        ...

    def wake(self, link: Link) -> None:
        """Something was queued on the link."""
        ...

    def drop(self, link: Link, reason: str) -> None:
        """Closes the link at once."""
        ...

    def role_changed(self, link: Link) -> None:
        """The link is something else to us now."""
        ...


class BackgroundMeter:
    """Bytes of strangers' links since the last report."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self.sent_bytes = 0

    def take(self, second: int) -> MeasBg:
        """The report for `second`; counting begins anew."""
        report = MeasBg(second, self.sent_bytes, self.read_bytes)
        self.read_bytes = self.sent_bytes = 0
        return report


class Measuring:
    """The relay's part in measurements, on real links."""

    def __init__(
        self,
        core: State,
        links: Links,
        ratio: float,
        rate_bytes: Callable[[], float | None],
        meter: BackgroundMeter,
        clock: Callable[[], Now],
        save: Callable[[dict[bytes, tuple[float, ...]], Now], None],
    ) -> None:
        self.core = core
        self._links = links
        self._ratio = ratio
        self._rate_bytes = rate_bytes
        self.meter = meter
        self._cap: BackgroundCap | None = None
        self._queue: deque[Event] = deque()
        self._busy = False
        self._clock = clock
        self._save = save
        self._now = clock()
        self._outputs: Mapping[type, Callable[[Any], None]] = {
            SaveAccepted: lambda effect: self._save(effect.accepted, self._now),
            SendMeasurement: self._send,
            ReportBackground: self._report,
            SetRole: self._set_role,
            BeginMeasuring: self._begin,
            EndMeasuring: self._end,
            CloseLink: self._close,
        }

    def post(self, event: Event) -> None:
        """Hands an event to the core and carries out the effects; nested calls are queued, in order."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._now = self._clock()
                for effect in self.core.handle(self._queue.popleft(), self._now):
                    self._outputs[type(effect)](effect)
        finally:
            self._busy = False

    def tick(self, now_s: float) -> None:
        """Lets the core know if the time has come that it waits for."""
        when = self.core.next_timer()
        if when is not None and now_s >= when:
            self.post(TimerFired())

    @property
    def capped(self) -> bool:
        """A measurement is running."""
        return self._cap is not None

    def may_read(self, now_s: float) -> Callable[[], int] | None:
        """What strangers may read now, or None if there is no cap."""
        cap = self._cap
        return None if cap is None else lambda: cap.available(now_s)

    def may_write(self) -> Callable[[], int] | None:
        """What strangers may write now: what they were let read, so without limit; None if there is no cap."""
        return None if self._cap is None else lambda: UNLIMITED_BYTES

    def was_read(self, link: Link, count_bytes: int, now_s: float) -> None:
        """A link read so much."""
        if link.role is Role.STRANGER:
            self.meter.read_bytes += count_bytes
            if self._cap is not None:
                self._cap.used(count_bytes, now_s)
        elif link.role is Role.MEASURER and self._cap is not None:
            self._cap.echoed(count_bytes, now_s)

    def was_written(self, link: Link, count_bytes: int) -> None:
        """A link wrote so much."""
        if link.role is Role.STRANGER:
            self.meter.sent_bytes += count_bytes

    def _send(self, effect: SendMeasurement) -> None:
        self._send_on(effect.link, effect.circ, effect.message)

    def _report(self, effect: ReportBackground) -> None:
        self._send_on(effect.link, effect.circ, self.meter.take(effect.second))

    def _send_on(self, number: int, circ_id: int, message: Measurement) -> None:
        link = self._links.find(number)
        if link is None:
            return
        try:
            link.send_measurement(circ_id, message)
        except NetworkError as exc:
            self._links.drop(link, exc.reason)
        else:
            self._links.wake(link)

    def _set_role(self, effect: SetRole) -> None:
        link = self._links.find(effect.link)
        if link is not None:
            link.role = effect.role
            self._links.role_changed(link)

    def _begin(self, _effect: BeginMeasuring) -> None:
        log.info("measurement: running")
        self.meter.take(0)
        self._cap = BackgroundCap(self._ratio, self._rate_bytes(), self._now.mono_s)

    def _end(self, effect: EndMeasuring) -> None:
        log.info("measurement: ended, %s", effect.reason)
        self._cap = None

    def _close(self, effect: CloseLink) -> None:
        link = self._links.find(effect.link)
        if link is None:
            return
        log.info("link %d from %s: %s", link.number, link.host, effect.reason)
        if effect.how is Close.FLUSH:
            link.flush(self._now.mono_s)
            self._links.wake(link)
        else:
            link.linger(self._now.mono_s)
