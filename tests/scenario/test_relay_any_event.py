"""Whatever peers do, in whatever order, the relay's core neither raises nor lets more pass than its rules say."""

from hypothesis import given
from hypothesis import strategies as st

from flashflow.model.clock import Now, TimerFired
from flashflow.orlink.meas import MeasParamsOk
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.core.effects import Role, SendMeasurement, SetRole
from flashflow.relay.core.events import (
    CircuitGone,
    EchoBegan,
    ErrReceived,
    JoinReceived,
    LinkLost,
    ParamsReceived,
)
from flashflow.relay.core.state import State
from support.mini_client import params

CERTIFICATE = b"c" * 32
TOKENS = (b"a" * 16, b"b" * 16, b"x" * 16)
SOCKETS = 2
RULES = AdmissionRules(frozenset({CERTIFICATE}), period_s=1e9, max_per_period=3, setup_s=2.0)
LINKS = st.integers(1, 6)
CIRCS = st.integers(1, 2)
PARAMS = st.sampled_from([params(*TOKENS[:2], meas_id=5, duration_s=2, sockets=SOCKETS), None])
EVENTS = st.one_of(
    st.builds(ParamsReceived, LINKS, CIRCS, st.sampled_from([CERTIFICATE, None]), PARAMS),
    st.builds(
        JoinReceived,
        LINKS,
        CIRCS,
        st.just("192.0.2.1"),
        st.booleans(),
        st.integers(5, 6),
        st.sampled_from(TOKENS),
    ),
    st.builds(EchoBegan, LINKS),
    st.builds(ErrReceived, LINKS),
    st.builds(LinkLost, LINKS),
    st.builds(CircuitGone, LINKS, CIRCS),
    st.just(TimerFired()),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0.0, 1.5)), max_size=60))
def test_no_event_raises_and_the_rules_hold(story) -> None:
    state, now_s, accepted = State(RULES), 0.0, 0
    measurers: dict[int, bytes] = {}
    for event, pause_s in story:
        now_s += pause_s
        for effect in state.handle(event, Now(now_s, 0.0)):
            if isinstance(effect, SendMeasurement) and isinstance(effect.message, MeasParamsOk):
                accepted += 1
            if effect == SetRole(getattr(event, "link", 0), Role.MEASURER):
                measurers[event.link] = event.token
        if isinstance(event, LinkLost):
            measurers.pop(event.link, None)
        if state.phase is None:
            measurers.clear()
            assert state.next_timer() is None
        assert accepted <= RULES.max_per_period
        assert TOKENS[2] not in measurers.values()
        assert all(list(measurers.values()).count(token) <= SOCKETS for token in TOKENS)
