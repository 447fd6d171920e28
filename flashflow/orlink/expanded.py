"""Ed25519 signatures with an X25519 private key (dir-spec appendix C), for ntor-onion-key-crosscert.

The cryptography library signs only with seeds, while an X25519 key is a scalar; so the one curve operation that this
takes is written out. It is not constant-time: a relay runs it once per descriptor, on its own key, and shows no timing
to anyone.
"""

import hashlib
from typing import Final

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_PREFIX_TAG: Final = b"Derive high part of ed25519 key from curve25519 key\0"

_Point = tuple[int, int, int, int]
"""Extended coordinates X, Y, Z, T of a point on the twisted Edwards curve."""


def _base_point() -> _Point:
    y = 4 * pow(5, -1, _P) % _P
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    x = x if x % 2 == 0 else _P - x
    return x, y, 1, x * y % _P


_BASE: Final = _base_point()


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply_base(scalar: int) -> bytes:
    """`scalar` times the base point, in the 32 bytes of ed25519."""
    total: _Point = (0, 1, 1, 0)
    point = _BASE
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    inverse = pow(total[2], -1, _P)
    x, y = total[0] * inverse % _P, total[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _scalar(private: bytes) -> int:
    clamped = int.from_bytes(private, "little") & ~7 & ~(1 << 255)
    return clamped | 1 << 254


def ed25519_public(private: bytes) -> bytes:
    """The ed25519 public key, 32 bytes, that belongs to an X25519 private key of 32 bytes.

    Its highest bit is the sign that X25519's own public key does not tell.
    """
    return _multiply_base(_scalar(private))


def sign(private: bytes, message: bytes) -> bytes:
    """A signature, 64 bytes, of `message` under `ed25519_public(private)`."""
    scalar = _scalar(private)
    public = _multiply_base(scalar)
    prefix = hashlib.sha512(private + _PREFIX_TAG).digest()[:32]
    nonce = _hash(prefix + message)
    commitment = _multiply_base(nonce)
    answer = (nonce + _hash(commitment + public + message) * scalar) % _ORDER
    return commitment + answer.to_bytes(32, "little")


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little") % _ORDER
