"""What a relay is started with."""

from dataclasses import dataclass, field
from pathlib import Path

from flashflow.model.ids import Address
from flashflow.orlink.cells import MeasCommands
from flashflow.relay.core.admission import AdmissionRules


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Settings of `flashflow relay`."""

    data_dir: Path
    """Keys, descriptor, `rate_mbps` and what was accepted live here."""
    nickname: str
    """1 to 19 letters and digits."""
    listen: tuple[Address, ...]
    """IP addresses and ports; port 0 means any free one."""
    rules: AdmissionRules
    """Who may measure, and how often."""
    rate_bytes: float | None = None
    """Limit for reading and, separately, for writing, cell bytes/s; None: none."""
    bandwidth_avg_bytes: int = 1_000_000_000
    """What the descriptor says, bytes/s; it limits nothing."""
    background_ratio: float = 0.25
    """r: largest share of background traffic during a measurement."""
    counts: Path | None = None
    """Where the counts go, or None."""
    loop: bool = False
    """Whether RELAY cells that are meant for nobody are returned through this relay's own onion layer."""
    commands: MeasCommands = field(default_factory=MeasCommands)
    """Cell commands used for measuring."""
