"""A period's seed and whose slot it is, beside values of `openssl dgst -sha256 -mac HMAC`."""

from coordinator.core.seeds import period_seed, whose_slot
from flashflow.model.ids import Fingerprint
from support.schedules import SEED, fingerprint, is_uniform, turn

SHARED = bytes(range(100, 132))


def test_a_seed_that_openssl_computed() -> None:
    assert (
        period_seed(SEED, SHARED, 20_000).hex()
        == "9d13bdc694627e06f9781e0527e6b284e81f0f8255e380f8ba9dc86d0d90e26d"
    )


def test_seeds_of_other_periods_secrets_and_shared_values_differ() -> None:
    seeds = [
        period_seed(SEED, SHARED, 1),
        period_seed(SEED, SHARED, 2),
        period_seed(SHARED, SHARED, 1),
        period_seed(SEED, SEED, 1),
    ]
    assert len({*seeds}) == 4


def test_whose_slot_by_openssl() -> None:
    relay = Fingerprint("0123456789ABCDEF0123456789ABCDEF01234567")
    digest = "f048eb0ba1df143450be8cbbf9463884d30400b876835edac7c1426dd50e6624"
    assert [whose_slot(SEED, relay, 2879, k) for k in (1, 2, 3, 1000)] == [
        0,
        *(int(digest, 16) % k for k in (2, 3, 1000)),
    ]


def test_each_relay_and_slot_is_somebodys_and_each_has_as_many() -> None:
    counts = [0, 0, 0]
    for number in range(30):
        for slot in range(100):
            owner = whose_slot(SEED, fingerprint(number), slot, 3)
            assert owner == turn(SEED, fingerprint(number), slot, 3)
            counts[owner] += 1
    assert is_uniform(counts)
