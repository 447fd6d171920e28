"""What the threads of a stage do until the stop event is set."""

import logging
import traceback
from threading import Event

from flashflow.model.errors import FlashFlowError
from flashflow.pipeline.queues import Job, Queues
from flashflow.pipeline.stages import ItemRefusedError, Source, Stage, WorkInterruptedError

LOG = logging.getLogger(__name__)

LONGEST_REASON = 500
"""Characters."""


def reason_of(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, FlashFlowError):
        return error.reason
    text = "".join(traceback.format_exception_only(error))  # survives an exception that cannot be shown
    return " ".join(text.split())[:LONGEST_REASON]


def run_worker(stage: Stage, queues: Queues, stop: Event) -> None:
    """Work on the stage's items, one after the other."""
    while not stop.is_set():
        job = queues.take(stage.name)
        if job is not None:
            _work_on(job, stage, queues, stop)


def _work_on(job: Job, stage: Stage, queues: Queues, stop: Event) -> None:
    try:
        result = stage.work(job.item)
    except ItemRefusedError as error:
        LOG.info("%s: %s: set aside: %s", stage.name, job.name, error.reason)
        queues.refused(job, error.reason)
    except BaseException as error:  # a thread has nobody above it: SystemExit, too, ends only the item
        if isinstance(error, WorkInterruptedError) and stop.is_set():
            queues.interrupted(job)
            return
        LOG.exception("%s: %s: try %d of %d failed", stage.name, job.name, job.tries, stage.settings.tries)
        if aside := queues.failed(job, reason_of(error)):
            LOG.error("%s: %s: set aside after %d tries: %s", stage.name, job.name, aside.tries, aside.reason)
    else:
        queues.passed(job, result)


def run_source(name: str, source: Source, queues: Queues, stop: Event) -> None:
    """Have the source bring the items of stage `name`, round after round."""
    while not stop.is_set():
        try:
            if not queues.put_all(name, source.task()):
                LOG.warning("%s: the source ended after the stop, with items that nobody gets", name)
        except BaseException:  # as above: the next round may go well
            LOG.exception("%s: the source failed", name)
        stop.wait(source.every_s)
