"""The measurements that were accepted, on disk: a relay that starts again gives nobody more than its rules say."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from flashflow.model.clock import Now
from flashflow.model.errors import LocalError
from flashflow.shell.files import write_private

log = logging.getLogger(__name__)

ACCEPTED_FILE = "accepted.json"
_VERSION = 1


def load_accepted(path: Path, now: Now) -> dict[bytes, list[float]]:
    """Coordinator's certificate (SHA-256) -> when its measurements were accepted, by the monotonic clock of now.

    None yet if there is no such file. LocalError if it cannot be read or is not what was stored.
    """
    try:
        stored = json.loads(path.read_bytes())
        if stored["version"] != _VERSION:
            raise ValueError(f"version {stored['version']}")
        return {bytes.fromhex(name): _monotonic(times, now) for name, times in stored["accepted"].items()}
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise LocalError(f"accepted measurements {path}: {exc.strerror}") from exc
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as exc:
        raise LocalError(
            f"accepted measurements {path}: not what was stored (without the file, counting begins anew)"
        ) from exc


def save_accepted(path: Path, accepted: Mapping[bytes, Sequence[float]], now: Now) -> None:
    """Keeps them in Unix time; a line in the log if that fails, for the relay itself still knows them."""
    times = {
        name.hex(): [now.utc_s - (now.mono_s - when_s) for when_s in times_s]
        for name, times_s in accepted.items()
    }
    try:
        write_private(path, json.dumps({"version": _VERSION, "accepted": times}).encode() + b"\n")
    except LocalError as error:
        log.error("%s", error.reason)


def _monotonic(times: Sequence[float], now: Now) -> list[float]:
    """A time that is yet to come, since the clock was set back, counts as now."""
    if not all(map(math.isfinite, times)):
        raise ValueError("not a time")
    return sorted(now.mono_s - max(0.0, now.utc_s - when_s) for when_s in times)
