"""Relays on their way to the schedule, through worker threads: detect → inspect → schedule, and cleanup.

A relay that is new in the consensus, or allowed, running or complete again, is inspected and offered to the core, which
alone schedules and measures; one that is no longer so is taken back. The core answers each (AnswerOffer).
"""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from coordinator.core.effects import AnswerOffer
from coordinator.core.events import RelayGone, RelayOffered, RelaysLoaded
from coordinator.core.state import refusal_by
from flashflow.directory.filter import Rule
from flashflow.model.ids import Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.pipeline.handover import HandOver, Outcome
from flashflow.pipeline.pipeline import Pipeline
from flashflow.pipeline.stages import PipelineSettings, Source, Stage, StageSettings

LOG = logging.getLogger(__name__)

DETECT_EVERY_S = 2.0
"""Pause between two looks at the newest consensus."""


@dataclass(frozen=True, slots=True)
class RelayPipelineSettings:
    """How many threads, how long queues, how long waits."""

    workers: int = 1
    """Threads that inspect; with more, relays of one consensus may come out in another order."""
    queue_bound: int = 1000
    """Relays that wait at most for a stage."""
    tries: int = 3
    """How often a stage works on a relay that it fails with."""
    retry_after_s: float = 10.0
    """From a failure to the next try."""
    timeout_s: float = 30.0
    """How long the core's answer is waited for."""
    join_timeout_s: float = 10.0
    """How long the stop waits for the threads."""


@dataclass(frozen=True, slots=True)
class _Consensus:
    """What is known of relays; never changed, so that threads may read it."""

    number: int
    """Counts the consensuses that were seen."""
    relays: Mapping[Fingerprint, RelayInfo]
    """By fingerprint, in the consensus' order."""
    rules: Mapping[Fingerprint, Rule]
    """The relay filter's rule for each relay that it names."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A relay that was detected or is gone."""

    fingerprint: Fingerprint
    """The relay."""
    problem: str | None = None
    """Why it is not measured; None if it may be."""


class RelayPipeline:
    """Feeds the core with relays; `post` takes its events and is called on the loop."""

    def __init__(self, settings: RelayPipelineSettings, post: Callable[[object], None]) -> None:
        self._post = post
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._newest = _Consensus(0, {}, {})
        self._looked_at: dict[Fingerprint, int] = {}
        """Relay -> the number of the consensus in which it was detected last."""
        self._offered: set[Fingerprint] = set()
        """Relays that the core was offered and that did not go since."""
        self._lock = threading.Lock()
        """Guards `_offered` and `_leaving`, which more than one thread changes."""
        self._leaving: set[Fingerprint] = set()
        """Relays that are being taken back."""
        self._ids = itertools.count(1)
        self._outcomes: dict[int, Outcome] = {}
        """Of offers that the core has; the loop's."""
        self._pipeline = self._made(settings)

    def _made(self, settings: RelayPipelineSettings) -> Pipeline:
        one = StageSettings(1, settings.queue_bound, settings.tries, settings.retry_after_s)
        many = StageSettings(settings.workers, settings.queue_bound, settings.tries, settings.retry_after_s)
        hand_over = HandOver(self._hand_over, self._stop, timeout_s=settings.timeout_s)
        stages = (
            Stage("detect", self._detect, one, then="inspect", source=Source(self._new, DETECT_EVERY_S)),
            Stage("inspect", self._inspect, many, then="schedule"),
            Stage("schedule", lambda found: self._schedule(found, hand_over), one),
            Stage(
                "cleanup",
                lambda found: self._take_back(found, hand_over),
                one,
                source=Source(self._gone, DETECT_EVERY_S),
            ),
        )
        common = PipelineSettings(join_timeout_s=settings.join_timeout_s)
        return Pipeline(stages, self._stop, common, name_of=lambda item: getattr(item, "fingerprint", item))

    # --- on the loop ---

    def start(self) -> None:
        """Start the threads. Raises LocalError."""
        self._loop = asyncio.get_running_loop()
        self._pipeline.start()

    def observe(self, loaded: RelaysLoaded) -> None:
        """Another consensus or filter; the core has it already."""
        relays = {relay.fingerprint: relay for relay in loaded.relays}
        rules = loaded.relay_filter.resolve(loaded.relays)
        self._newest = _Consensus(self._newest.number + 1, relays, rules)

    def answer(self, effect: AnswerOffer) -> None:
        """The core says what became of an offer."""
        if outcome := self._outcomes.pop(effect.offer_id, None):
            outcome.succeed(effect.outcome)

    async def stop(self) -> None:
        """Wait for the threads; what is under way comes again with the next run of the service."""
        left = await asyncio.to_thread(self._pipeline.stop)
        if left:
            LOG.info("%d relays were on their way to the schedule", len(left))

    def view(self) -> dict[str, Any]:
        """The counters of each stage and what was set aside, as a JSON object."""
        stages = [{"stage": name, **asdict(counts)} for name, counts in self._pipeline.counts().items()]
        aside = [
            {"stage": one.stage, "fingerprint": one.name, "reason": one.reason, "tries": one.tries}
            for one in self._pipeline.set_aside()
        ]
        return {"stages": stages, "set_aside": aside}

    # --- on threads ---

    def _new(self) -> Iterator[Fingerprint]:
        """What the newest consensus has and the core was not offered; each once a consensus."""
        newest = self._newest
        for fingerprint in newest.relays:
            if self._looked_at.get(fingerprint) == newest.number or not newest.relays[fingerprint].running:
                continue
            self._looked_at[fingerprint] = newest.number
            with self._lock:
                known = fingerprint in self._offered
            if not known:
                yield fingerprint

    def _detect(self, fingerprint: Fingerprint) -> _Found:
        LOG.debug("relay %s is new in the consensus", fingerprint)
        return _Found(fingerprint)

    def _inspect(self, found: _Found) -> _Found:
        return _Found(found.fingerprint, _problem(self._newest, found.fingerprint))

    def _schedule(self, found: _Found, hand_over: HandOver) -> None:
        if found.problem is None:
            LOG.debug("relay %s: %s", found.fingerprint, hand_over(found))
            with self._lock:
                self._offered.add(found.fingerprint)

    def _gone(self) -> list[_Found]:
        """What the core was offered and may not be measured any more."""
        newest = self._newest
        with self._lock:
            staying = sorted(self._offered - self._leaving)
            problems = {fp: problem for fp in staying if (problem := _problem(newest, fp))}
            self._leaving |= problems.keys()
        return [_Found(fingerprint, problem) for fingerprint, problem in problems.items()]

    def _take_back(self, found: _Found, hand_over: HandOver) -> None:
        try:
            LOG.debug("relay %s: %s", found.fingerprint, hand_over(found))
            with self._lock:
                self._offered.discard(found.fingerprint)
            self._looked_at.pop(found.fingerprint, None)  # it may be back already
        finally:
            with self._lock:
                self._leaving.discard(found.fingerprint)

    def _hand_over(self, item: object, outcome: Outcome) -> None:
        assert isinstance(item, _Found)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._tell_core, item, outcome)

    def _tell_core(self, found: _Found, outcome: Outcome) -> None:
        if not outcome.is_awaited():
            return
        offer_id = next(self._ids)
        self._outcomes = {key: other for key, other in self._outcomes.items() if other.is_awaited()}
        self._outcomes[offer_id] = outcome
        if found.problem is None:
            self._post(RelayOffered(offer_id, found.fingerprint))
        else:
            self._post(RelayGone(offer_id, found.fingerprint, found.problem))


def _problem(consensus: _Consensus, fingerprint: Fingerprint) -> str | None:
    """Why a relay is not measured any more, or None; one that is offline for a while keeps its place."""
    relay = consensus.relays.get(fingerprint)
    if relay is None:
        return "it left the consensus"
    return refusal_by(consensus.rules.get(fingerprint), relay)
