"""What the session client tells, as events of the core."""

from flashflow.shell.sessionclient import Connected, Disconnected, ServerMessage, Unreachable
from measurer.core import events as ev


def translate(event: object) -> object:
    """A session client's event -> the core's."""
    match event:
        case ServerMessage(message=message):
            return ev.CoordinatorSaid(message)
        case Connected(host=host, resumed=resumed):
            return ev.LinkUp(host, resumed)
        case Disconnected(reason=reason, heard_mono_s=heard_mono_s):
            return ev.LinkDown(reason, heard_mono_s)
        case Unreachable(reason=reason, retry_s=retry_s):
            return ev.LinkFailed(reason, retry_s)
    raise TypeError(f"not an event of the session: {event!r}")
