"""A period's seed, and which of several deployments may measure a relay in a slot.

Deployments that must not measure a relay at the same time share the secret, and so the seed of each period. What one
may use depends on nothing else, so they need not know of each other's estimates, teams and schedules.
"""

import hmac

from flashflow.model.ids import Fingerprint


def period_seed(secret: bytes, shared_random: bytes, period_index: int) -> bytes:
    """HMAC-SHA256(secret, shared random value || u64 period number), big-endian: nobody without the secret knows it."""
    return hmac.digest(secret, shared_random + period_index.to_bytes(8, "big"), "sha256")


def whose_slot(seed: bytes, fingerprint: Fingerprint, slot: int, deployments: int) -> int:
    """The number of the deployment, from 0, that may measure the relay in this slot.

    HMAC-SHA256(seed, 20 bytes of fingerprint || u32 slot) mod `deployments`, big-endian.
    """
    if deployments == 1:
        return 0
    digest = hmac.digest(seed, bytes.fromhex(fingerprint) + slot.to_bytes(4, "big"), "sha256")
    return int.from_bytes(digest, "big") % deployments
