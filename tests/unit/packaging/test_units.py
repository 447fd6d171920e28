"""The systemd units: what they start, that they start it again, and that they keep it in bounds."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from coordinator.core import measurement as coordinator
from coordinator.core.params import Params
from flashflow.model.timing import DRAIN_S, MAX_MEASUREMENT_S, SETUP_S
from measurer.app import FLUSH_S
from measurer.core import measurement as measurer

PACKAGING = Path(__file__).parents[3] / "packaging"
UNITS = ("coord", "measurer")
SANDBOX = {
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectSystem": "strict",
    "RestrictSUIDSGID": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallFilter": "@system-service",
}


def service_of(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(PACKAGING / f"flashflow-{name}.service")
    assert parser["Install"]["WantedBy"] == "multi-user.target"
    return dict(parser["Service"])


@pytest.mark.parametrize("name", UNITS)
def test_unit(name: str) -> None:
    service = service_of(name)
    assert service["ExecStart"] == f"flashflow {name} --config /etc/flashflow/{name}.conf"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2", "a wrong configuration does not mend itself"
    assert service["SuccessExitStatus"] == "143", "ended by SIGTERM, after draining"
    assert service["User"] == "flashflow"
    assert service["StateDirectory"] == f"flashflow-{name}"
    assert service["StateDirectoryMode"] == "0700"
    assert {key: service[key] for key in SANDBOX} == SANDBOX


def test_the_longest_measurement_may_end_before_systemd_kills() -> None:
    saving_s = coordinator.DEADLINES[coordinator.Phase.SAVING](Params())
    coord_s = SETUP_S + MAX_MEASUREMENT_S + DRAIN_S + saving_s
    assert int(service_of("coord")["TimeoutStopSec"]) > coord_s
    phases = measurer.Phase
    waiting_s = sum(measurer.DEADLINES_S[phase] for phase in (phases.READY, phases.STARTING, phases.ACTIVE))
    measurer_s = measurer.SETUP_S + waiting_s + MAX_MEASUREMENT_S + measurer.DEADLINES_S[phases.STOPPING]
    assert int(service_of("measurer")["TimeoutStopSec"]) > measurer_s + FLUSH_S


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_every_line(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    unit = tmp_path / f"flashflow-{name}.service"
    text = (PACKAGING / unit.name).read_text()
    unit.write_text(
        text.replace("ExecStart=flashflow", "ExecStart=/bin/true")
    )  # it need not be installed here
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
