"""Which relays of the plan are one host's, and so share a slot (colocation.py says what a host is)."""

from coordinator.core import colocation
from coordinator.core.kept import mark
from coordinator.core.state import State
from flashflow.model.ids import Fingerprint


def groups_of(state: State, due: list[Fingerprint]) -> dict[Fingerprint, int]:
    """The number of the group of each relay that shares its host with another one that is due."""
    relays = [state.relays[fingerprint] for fingerprint in due]
    found = colocation.groups(relays, state.params.colocation) if state.params.colocation else ()
    return {member: number for number, members in enumerate(found) for member in members}


def join_group(state: State, fingerprint: Fingerprint) -> None:
    """It is to be measured together with those that it shares a host with and that have a slot."""
    known, schedule = state.period.groups, state.period.schedule
    if not state.params.colocation or fingerprint in known or schedule is None:
        return
    if state.hosts is None:
        found = colocation.groups(state.relays.values(), state.params.colocation)
        state.hosts = {member: members for members in found for member in members}
    members = state.hosts.get(fingerprint, ())
    number = next((known[member] for member in members if member in known), None)
    if number is None:
        alone = [member for member in members if schedule.of(member)]
        if not alone:
            return
        number = 1 + max(known.values(), default=-1)
        for member in alone:  # until now nobody shared its host
            schedule.join(member, number)
            known[member] = number
            mark(state, member)
    known[fingerprint] = number
