"""What may be done to a relay, by the parameters of its network's consensus."""

from dataclasses import asdict, astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashflow.model.circuits import LOOP_CIRCUITS_MEASURER, LOOP_OPENING_S, loop_circuits
from flashflow.model.network import CEILING, LEAST_CELLS, NetworkLimits, network_limits
from flashflow.testnet.tornet import LIVE_PARAMS
from flashflow.wire.messages import LoopLimits

LIVE = {name: int(value) for name, value in (word.split("=") for word in LIVE_PARAMS.split())}
NAMES = sorted(LIVE)


def test_the_live_networks_parameters_and_none_at_all_are_the_most() -> None:
    assert network_limits(LIVE) == network_limits({}) == CEILING == NetworkLimits(40, 20, 10.0, 30, 2.0, 800)


def test_lower_parameters_lower_the_limits_also_where_the_defences_are_off() -> None:
    params = {
        "DoSConnectionEnabled": 0,
        "DoSCircuitCreationEnabled": 0,
        "DoSConnectionMaxConcurrentCount": 20,
        "DoSConnectionConnectRate": 7,
        "DoSConnectionConnectBurst": 15,
        "DoSCircuitCreationRate": 1,
        "DoSCircuitCreationBurst": 31,
        "circ_max_cell_queue_size": 900,
    }
    assert network_limits(params) == NetworkLimits(10, 7, 3.5, 15, 1.0, 720)
    assert network_limits(params | {"circ_max_cell_queue_size_out": 500}).circuit_cells == 400


def test_higher_ones_raise_nothing() -> None:
    assert network_limits(dict.fromkeys(NAMES, 1000000)) == CEILING


@pytest.mark.parametrize("value", [0, -5, -(2**31)])
def test_absurd_ones_leave_the_least(value: int) -> None:
    limits = network_limits(dict.fromkeys(NAMES, value))
    assert limits == NetworkLimits(1, 1, 0.5, 1, 0.5, LEAST_CELLS)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(-(2**31), 2**31 - 1)), st.integers(1, 10))
def test_whatever_the_consensus_says_the_limits_are_within_what_the_wire_takes(
    params: dict[str, int], measurers: int
) -> None:
    limits = network_limits(params).shared_by(measurers)
    assert all(0 < limit <= most for limit, most in zip(astuple(limits), astuple(CEILING), strict=True))
    assert LoopLimits(**asdict(limits)).model_dump() == asdict(limits)


def test_measurers_at_one_address_share_them() -> None:
    assert CEILING.shared_by(1) == CEILING
    assert CEILING.shared_by(2) == NetworkLimits(20, 10, 5.0, 15, 1.0, 800)
    assert NetworkLimits(connections=3).shared_by(4).connections == 1


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 200)), st.integers(1, 4))
def test_all_circuits_of_a_measurer_can_be_opened_in_time(params: dict[str, int], measurers: int) -> None:
    limits = network_limits(params).shared_by(measurers)
    n_circs = loop_circuits(1e9, 0.1, limits)
    assert 1 <= n_circs <= min(LOOP_CIRCUITS_MEASURER, limits.connections)
    assert n_circs <= limits.connections_burst + LOOP_OPENING_S * limits.connections_per_s
    assert n_circs <= limits.circuits_burst + LOOP_OPENING_S * limits.circuits_per_s


def test_circuits_of_a_slow_relay_are_few() -> None:
    assert loop_circuits(125_000, 0.1, CEILING) <= 4 < loop_circuits(1e9, 0.1, CEILING)
