"""The one source of random draws: SHAKE-256 over seed, label and counter (docs/protocol.md, "Draws")."""

import hashlib
from dataclasses import dataclass, field

_DOMAIN = b"flashflow-draw-v1"


def draw_bytes(seed: bytes, label: str, counter: int, n_bytes: int) -> bytes:
    """`n_bytes` for the draw number `counter` under `label`.

    SHAKE-256(domain || u16 seed length || seed || u16 label length || label || u64 counter), big-endian.
    """
    name = label.encode()
    head = len(seed).to_bytes(2, "big") + seed + len(name).to_bytes(2, "big") + name
    return hashlib.shake_256(_DOMAIN + head + counter.to_bytes(8, "big")).digest(n_bytes)


@dataclass(slots=True)
class Draw:
    """Draws under one seed; each label counts on its own."""

    seed: bytes
    """32 bytes of entropy; secret."""
    counters: dict[str, int] = field(default_factory=dict)
    """Draws made so far, by label."""

    def take(self, label: str, n_bytes: int) -> bytes:
        """The next `n_bytes` under `label`."""
        counter = self.counters.get(label, 0)
        self.counters[label] = counter + 1
        return draw_bytes(self.seed, label, counter, n_bytes)

    def below(self, label: str, bound: int) -> int:
        """A uniform integer in [0, bound), by rejection sampling. Raises ValueError for bound < 1."""
        if bound < 1:
            raise ValueError(f"cannot draw below {bound}")
        bits = (bound - 1).bit_length()
        n_bytes = (bits + 7) // 8
        while True:
            value = int.from_bytes(self.take(label, max(1, n_bytes)), "big") & ((1 << bits) - 1)
            if value < bound:
                return value
