"""What is known of a relay, from a consensus and its descriptor."""

from dataclasses import dataclass

from flashflow.model.ids import Address, Fingerprint


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """One relay of the consensus."""

    fingerprint: Fingerprint
    """RSA identity digest, 40 upper-case hex digits."""
    nickname: str
    """1..19 letters and digits; not unique."""
    address: Address
    """Its OR port as the consensus lists it."""
    ed25519: bytes | None
    """Ed25519 master identity, 32 bytes; None where no descriptor is known."""
    ntor_key: bytes | None
    """Curve25519 onion key, 32 bytes; None where no descriptor is known."""
    bandwidth_avg_bytes: int | None
    """The descriptor's bandwidth-avg (RelayBandwidthRate or MaxAdvertisedBandwidth), bytes/s."""
    bandwidth_burst_bytes: int | None
    """The descriptor's bandwidth-burst, bytes/s."""
    bandwidth_observed_bytes: int | None
    """The descriptor's bandwidth-observed, bytes/s."""
    consensus_weight_kb: int | None
    """`w Bandwidth=` of the consensus, in its units of 1000 bytes/s."""
    unmeasured: bool
    """The consensus says `Unmeasured=1`."""
    running: bool = True
    """The consensus lists the Running flag."""
    more_addresses: tuple[Address, ...] = ()
    """Its other OR ports of the consensus, IPv6 as a rule."""
    family: tuple[Fingerprint, ...] = ()
    """The relays that its descriptor declares as its family, sorted; one-sided until they do the same."""
    family_keys: tuple[bytes, ...] = ()
    """The family keys (proposal 321), 32 bytes each, of which it has certificates; relays that share one are family."""

    @property
    def measurable(self) -> bool:
        """Whether the keys that a measurement needs are known."""
        return self.ed25519 is not None and self.ntor_key is not None
