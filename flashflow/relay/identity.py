"""The relay's keys on disk, and the descriptor that it publishes there."""

import os
from pathlib import Path

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.orlink.descriptor import build_server_descriptor
from flashflow.orlink.keys import RelayKeys
from flashflow.relay.settings import RelaySettings

KEYS_FILE = "relay_keys.json"
DESCRIPTOR_FILE = "descriptor"


def load_or_make_keys(data_dir: Path) -> RelayKeys:
    """The keys in `data_dir`, made at the first start (mode 0600). LocalError if they cannot be read or written."""
    path = data_dir / KEYS_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            return _load(path)
        keys = RelayKeys.generate()
        _write(path, keys.to_json(), 0o600)
    except (OSError, UnicodeDecodeError) as exc:
        raise LocalError(f"relay keys {path}: {exc}") from exc
    return keys


def write_descriptor(
    settings: RelaySettings, keys: RelayKeys, addresses: tuple[Address, ...], now_utc_s: float
) -> Path:
    """Writes the signed descriptor for where the relay really listens. LocalError if that fails."""
    path = settings.data_dir / DESCRIPTOR_FILE
    try:
        _write(path, describe(settings, keys, addresses, now_utc_s), 0o644)
    except OSError as exc:
        raise LocalError(f"descriptor {path}: {exc.strerror}") from exc
    return path


def describe(
    settings: RelaySettings, keys: RelayKeys, addresses: tuple[Address, ...], now_utc_s: float
) -> str:
    """The descriptor's text. A relay that listens on IPv6 alone has 0.0.0.0 where dir-spec demands an IPv4 address."""
    ipv4 = next((address for address in addresses if ":" not in address.host), None)
    ipv6 = next((address for address in addresses if ":" in address.host), None)
    port = ipv4.port if ipv4 else addresses[0].port
    return build_server_descriptor(
        keys,
        nickname=settings.nickname,
        address=ipv4.host if ipv4 else "0.0.0.0",
        or_port=port,
        bandwidth_avg=settings.bandwidth_avg_bytes,
        bandwidth_burst=settings.bandwidth_avg_bytes,
        bandwidth_observed=0,
        published_utc_s=now_utc_s,
        ipv6=(ipv6.host, ipv6.port) if ipv6 else None,
    )


def _load(path: Path) -> RelayKeys:
    try:
        return RelayKeys.from_json(path.read_text(encoding="utf-8"))
    except LocalError as exc:
        raise LocalError(f"{path}: {exc.reason}") from exc


def _write(path: Path, text: str, mode: int) -> None:
    """Writes a file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
