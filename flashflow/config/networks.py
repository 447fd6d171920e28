"""Which addresses a measurer may send measurement traffic to, whatever the coordinator asks. Pure."""

import ipaddress
from dataclasses import dataclass

PUBLIC = "public"
"""The word for every globally routable unicast address."""


@dataclass(frozen=True, slots=True)
class AllowedNetworks:
    """The targets that a measurer accepts."""

    public: bool
    """Whether every globally routable unicast address is allowed."""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    """Networks allowed besides."""

    def allows(self, host: str) -> bool:
        """Whether `host`, an IP address, may be measured; a host name never is."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # the kernel would connect to the IPv4 address
        if self.public and address.is_global and not address.is_multicast:
            return True
        return any(address.version == network.version and address in network for network in self.networks)


def parse_networks(text: str) -> AllowedNetworks:
    """`public` and networks such as `192.0.2.0/24`, separated by commas or blanks. Raises ValueError."""
    words = text.replace(",", " ").split()
    networks = tuple(ipaddress.ip_network(word) for word in words if word.lower() != PUBLIC)
    return AllowedNetworks(any(word.lower() == PUBLIC for word in words), networks)
