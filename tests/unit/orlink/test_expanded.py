from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from flashflow.orlink import expanded
from flashflow.orlink.ntor import public_key


def test_expanded_signatures_are_ordinary_ed25519_signatures() -> None:
    for number in range(8):
        private = bytes((number,)) * 32
        public = Ed25519PublicKey.from_public_bytes(expanded.ed25519_public(private))
        public.verify(expanded.sign(private, b"message"), b"message")


def test_the_public_key_is_the_x25519_one_seen_from_the_other_curve() -> None:
    prime = 2**255 - 19
    for number in range(8):
        private = bytes((number,)) * 32
        y = int.from_bytes(expanded.ed25519_public(private), "little") % 2**255
        u = (1 + y) * pow(1 - y, -1, prime) % prime
        assert u.to_bytes(32, "little") == public_key(private)
