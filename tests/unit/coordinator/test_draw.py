"""The generator, against vectors computed from its written definition, and its uniformity."""

import hashlib

import pytest

from coordinator.core.draw import Draw, draw_bytes

SEED = bytes(range(32))


def test_matches_the_definition() -> None:
    written_out = (
        b"flashflow-draw-v1" + b"\x00\x20" + SEED + b"\x00\x05token" + b"\x00\x00\x00\x00\x00\x00\x00\x07"
    )
    assert draw_bytes(SEED, "token", 7, 16) == hashlib.shake_256(written_out).digest(16)


@pytest.mark.parametrize(
    ("label", "counter", "expected"),
    [
        ("token", 0, "006da1cfa07e91712cfd47be4f05ee4c"),
        ("token", 1, "89a2c4daea1eb5dc429bbf1fcaeb2d90"),
        ("meas_id", 0, "a750a1923205f665af85898251a72f24"),
    ],
)
def test_vectors(label: str, counter: int, expected: str) -> None:
    assert draw_bytes(SEED, label, counter, 16).hex() == expected


def test_labels_count_on_their_own() -> None:
    draw = Draw(SEED)
    assert draw.take("a", 8) == draw_bytes(SEED, "a", 0, 8)
    assert draw.take("b", 8) == draw_bytes(SEED, "b", 0, 8)
    assert draw.take("a", 8) == draw_bytes(SEED, "a", 1, 8)


def test_below_is_uniform() -> None:
    draw, counts = Draw(SEED), [0] * 5
    for _ in range(5000):
        counts[draw.below("x", 5)] += 1
    chi_square = sum((count - 1000) ** 2 / 1000 for count in counts)
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


def test_below_needs_room() -> None:
    assert Draw(SEED).below("x", 1) == 0
    with pytest.raises(ValueError, match="below 0"):
        Draw(SEED).below("x", 0)
