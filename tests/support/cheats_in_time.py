"""Relays that cheat by when they send what they have to send, and by when they stop: for `cheating_relay.py`.

Seconds are counted as the measurers count them: from the end of the warm-up, which begins with the measurement.
"""

from flashflow.relay.core.bucket import TokenBucket
from flashflow.relay.core.effects import Role
from flashflow.relay.link import Link
from flashflow.relay.server import RelayServer

WARMUP_S = 2
LOOK_S = 0.002
SPREAD_S = 16


class Patient(TokenBucket):
    """No limit, but links that may not send yet are asked again a little later only."""

    def wait_s(self, count_bytes: int, now_s: float) -> float:
        return LOOK_S


class Timed(RelayServer):
    """Carries what its rate allows, that is reads it; sends as fast as it likes, and when."""

    begun_s: float | None = None

    def __init__(self, settings, keys):
        super().__init__(settings, keys)
        self._writers.bucket = Patient(None, 0.0)

    def tick(self, now):
        super().tick(now)
        self.begun_s = (self.begun_s or now.mono_s) if self._measuring.capped else None

    def second(self, now_s: float) -> float | None:
        """Seconds since second 1 began; None while nothing is measured."""
        return None if self.begun_s is None else now_s - self.begun_s - WARMUP_S

    @property
    def duration_s(self) -> int:
        """Seconds that are counted."""
        return self._measuring.core._meas.params.duration_s - WARMUP_S

    def serve(self, now_s):
        self.now_s = now_s
        super().serve(now_s)

    def room(self, link: Link, now_s: float) -> int | None:
        """How much may be sent now; None: as much as there is."""
        raise NotImplementedError

    def _write(self, link, limit_bytes):
        room = None if link.role is Role.COORDINATOR else self.room(link, self.now_s)
        if room is not None and room <= 0:
            return 0
        return super()._write(link, limit_bytes if room is None else min(limit_bytes, room))


class Store(Timed):
    """Is late with everything from the handshake on, so that much is sent to it; catches up in 16 seconds."""

    late_s = 0.1
    """How late at most, once it is measured."""
    shake_s = 0.1
    """How late with what belongs to the handshake: that is the round trip that is believed."""

    def __init__(self, settings, keys):
        super().__init__(settings, keys)
        self.came = []
        self.came_bytes = 0
        self.may_send_bytes = 0
        self.sent_bytes = 0
        self.due_s = {}

    def was_read(self, link, count_bytes):
        super().was_read(link, count_bytes)
        if link.role is Role.MEASURER:
            self.came_bytes += count_bytes
            self.came.append((self.now_s, self.came_bytes))

    def was_written(self, link, count_bytes):
        super().was_written(link, count_bytes)
        if link.role is Role.MEASURER:
            self.sent_bytes += count_bytes
        self.due_s.pop(link.number, None)

    def room(self, link, now_s):
        if link.role is not Role.MEASURER:  # a handshake
            return None if now_s >= self.due_s.setdefault(link.number, now_s + self.shake_s) else 0
        until_s = now_s - self.late_s * self.held(max(0.0, self.second(now_s) or 0.0))
        while self.came and self.came[0][0] <= until_s:
            self.may_send_bytes = self.came.pop(0)[1]
        return self.may_send_bytes - self.sent_bytes

    def held(self, second: float) -> float:
        """How late it is then, in `late_s`."""
        return max(0.0, 1 - second / SPREAD_S)


class Burst(Store):
    """Of three seconds it holds back a part of the first, and lets half of that go in each of the others."""

    late_s = 0.08
    shake_s = 0.15  # so that more is outstanding than it holds back, and it never has nothing to carry

    def held(self, second):
        at = second % 3
        return at if at < 1 else (3 - at) / 2


class Stall(Timed):
    """Sends nothing in the last second, and a quarter before it: who counts began to a little later."""

    def room(self, link, now_s):
        second = self.second(now_s)
        return 0 if second is not None and second >= self.duration_s - 1.25 else None


class Drip(Timed):
    """Sends one cell a second on each link."""

    def __init__(self, settings, keys):
        super().__init__(settings, keys)
        self.dripped_s = {}

    def room(self, link, now_s):
        if self.second(now_s) is None:
            return None
        if now_s < self.dripped_s.get(link.number, 0.0) + 1:
            return 0
        self.dripped_s[link.number] = now_s
        return 514


class AbortLow(Timed):
    """Closes the measurers' links when its rate is less than `least_mbps`, so that nobody sees a low result."""

    least_mbps = 8.0

    def room(self, link, now_s):
        rate_bytes = self._readers.bucket.rate_bytes or 0.0
        if (
            (self.second(now_s) or -1.0) > 0
            and link.role is Role.MEASURER
            and rate_bytes < self.least_mbps * 125_000
        ):
            self.drop(link, "it would look bad")
            return 0
        return None
