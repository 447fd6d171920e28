"""Starts a tor from the distribution on loopback, alone or as the only authority of a private network."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from flashflow.testnet.ports import free_ports
from support.or_client import Target

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0


def need_tor() -> None:
    """Skips the test where tor is not installed, unless FLASHFLOW_REQUIRE lists tor: then it fails."""
    if shutil.which("tor") and shutil.which("tor-gencert"):
        return
    reason = "tor is not installed"
    if "tor" in os.environ.get("FLASHFLOW_REQUIRE", "").replace(",", " ").split():
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class TorPorts:
    """Ports that a tor listens on."""

    or_v4: int
    or_v6: int
    directory: int


class RealTor:
    """A running tor; stopped by pid when its `with` block ends."""

    def __init__(self, folder: Path, *, authority: bool = False, extra: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "notice.log"
        self.data.mkdir(mode=0o700)
        or_v4, directory = free_ports("127.0.0.1", 2)
        [or_v6] = free_ports("::1", 1)
        self.ports = TorPorts(or_v4, or_v6, directory)
        lines = [*self._common(), *(self._authority() if authority else self._relay()), *extra]
        (folder / "torrc").write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [*self._command(), "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> "RealTor":
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _command(self) -> list[str]:
        defaults = ["--defaults-torrc", "/nonexistent", "--ignore-missing-torrc"]
        return ["tor", "-f", str(self.folder / "torrc"), *defaults]

    def _common(self) -> list[str]:
        return [
            "TestingTorNetwork 1",
            "Nickname probe",
            "Address 127.0.0.1",
            "AssumeReachable 1",
            f"DataDirectory {self.data}",
            f"ORPort 127.0.0.1:{self.ports.or_v4}",
            f"ORPort [::1]:{self.ports.or_v6}",
            "SocksPort 0",
            "ContactInfo none@example.net",
            "ShutdownWaitLength 0",
            f"Log notice file {self.log}",
        ]

    def _relay(self) -> list[str]:
        nobody = "1" * 40  # an authority that is not there: this tor only serves its own documents
        return [f"DirAuthority nobody orport=1 v3ident={nobody} 127.0.0.1:1 {nobody}"]

    def _authority(self) -> list[str]:
        base = [
            f"DirPort 127.0.0.1:{self.ports.directory}",
            "AuthoritativeDirectory 1",
            "V3AuthoritativeDirectory 1",
            "ExitPolicy reject *:*",
            "V3AuthVotingInterval 10",
            "V3AuthVoteDelay 2",
            "V3AuthDistDelay 2",
            "TestingV3AuthInitialVotingInterval 5",
            "TestingV3AuthInitialVoteDelay 2",
            "TestingV3AuthInitialDistDelay 2",
        ]
        (self.folder / "torrc").write_text("\n".join([*self._common(), *base]) + "\n")
        v3ident = self._make_authority_keys()
        listed = subprocess.run(
            [*self._command(), "--list-fingerprint", "--hush", "--DirAuthority", _line("1" * 40, "1" * 40)],
            check=True,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
        )
        fingerprint = "".join(listed.stdout.splitlines()[-1].split()[1:])
        orport, directory = self.ports.or_v4, self.ports.directory
        return [*base, f"DirAuthority {_line(v3ident, fingerprint, orport, directory)}"]

    def _make_authority_keys(self) -> str:
        keys = self.data / "keys"
        keys.mkdir(mode=0o700)
        address = f"127.0.0.1:{self.ports.directory}"
        subprocess.run(
            ["tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", "12", "-a", address],
            input=b"passphrase\n",
            cwd=keys,
            check=True,
            capture_output=True,
            timeout=START_TIMEOUT_S,
        )
        words = (keys / "authority_certificate").read_text().split()
        return words[words.index("fingerprint") + 1]

    def wait_for(self, what: str, path: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not path.exists():
            assert self.process.poll() is None, f"tor ended: {self._tail()}"
            assert time.monotonic() < deadline, f"tor: no {what} in {START_TIMEOUT_S} s: {self._tail()}"
            time.sleep(0.1)

    def _tail(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else "(no log)"

    def target(self, ip: str = "127.0.0.1") -> Target:
        """Address and keys, once the ports are open. The ntor key is read where tor keeps it."""
        for name in ("fingerprint", "fingerprint-ed25519"):
            self.wait_for(name, self.data / name)
        self.wait_for("ntor key", self.data / "keys" / "secret_onion_key_ntor")
        port = self.ports.or_v6 if ":" in ip else self.ports.or_v4
        self._wait_for_port(ip, port)
        rsa = bytes.fromhex((self.data / "fingerprint").read_text().split()[1])
        ed25519 = base64.b64decode((self.data / "fingerprint-ed25519").read_text().split()[1] + "=")
        stored = (self.data / "keys" / "secret_onion_key_ntor").read_bytes()
        return Target(ip, port, rsa, ed25519, stored[-32:])

    def _wait_for_port(self, ip: str, port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection((ip, port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, f"tor ended: {self._tail()}"
                assert time.monotonic() < deadline, f"tor: port {port} is not open: {self._tail()}"
                time.sleep(0.1)


def _line(v3ident: str, fingerprint: str, orport: int = 1, directory: int = 1) -> str:
    return f"probe orport={orport} v3ident={v3ident} 127.0.0.1:{directory} {fingerprint}"
