"""How often forged echoes are found, beside what proposal 316, appendix A, computes.

A relay that forges k of the N cells of a bucket, not knowing which one is checked, is found in that bucket with
probability k / N; over b buckets with 1 - (1 - k / N) ** b. The check is the real one, and what it draws comes from a
generator of fixed seed, so a run always ends the same; the bound is five standard deviations of the binomial.
"""

import inspect
import random
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from flashflow import config
from flashflow.cli.torclient import torclient
from flashflow.config.measurer import load_measurer
from flashflow.model.units import BYTES_PER_MBIT, CELL_BYTES
from flashflow.orlink.bulk import as_cells, cell_header, empty_cells, payloads
from flashflow.orlink.relaycrypto import AesCtr
from flashflow.torclient.app import Settings
from flashflow.torclient.core.passage import Layer
from flashflow.torclient.core.sampling import DEFAULT_BUCKET_CELLS, EchoCheck, EchoError
from flashflow.torclient.core.state import TorClientCore
from flashflow.torclient.core.stream import EchoStream

KEY = b"relay forward 16"
TRIALS = 1500
SIGMAS = 5


def detected(rng, bucket_cells, forged_per_bucket, buckets, draw, check=EchoCheck):
    """Whether one circuit's forged cells were found by its samples alone."""
    stream = EchoStream(b"a secret of 16 b", cell_header(0x80000001, 41))
    checking = check(stream=stream, passage=(Layer(KEY, 0),), bucket_cells=bucket_cells, draw=draw)
    count = bucket_cells * buckets
    sent = b"".join(bytes(stream.fill(empty_cells(bucket_cells, bytes(5)))) for _ in range(buckets))
    plain = AesCtr(KEY).crypt(np.ascontiguousarray(payloads(as_cells(sent))).reshape(-1))
    echoed = np.frombuffer(plain, np.uint8).reshape(count, 509).copy()
    for bucket in range(buckets):
        for place in rng.sample(range(bucket_cells), forged_per_bucket):
            echoed[bucket * bucket_cells + place] ^= 1
    try:
        checking.take(echoed)
        checking.verify()
    except EchoError:
        return True
    return False


def rate(bucket_cells, forged_per_bucket, buckets, *, check=EchoCheck, trials=TRIALS):
    """The share of trials in which the relay was found."""
    rng = random.Random(f"{bucket_cells}/{forged_per_bucket}/{buckets}")
    secret = random.Random(1)
    found = sum(
        detected(rng, bucket_cells, forged_per_bucket, buckets, secret.randrange, check)
        for _ in range(trials)
    )
    return found / trials


def computed(bucket_cells, forged_per_bucket, buckets):
    """Appendix A."""
    return 1 - (1 - forged_per_bucket / bucket_cells) ** buckets


def agrees(measured, expected, trials=TRIALS):
    """Within the binomial's spread."""
    return abs(measured - expected) <= SIGMAS * sqrt(max(expected * (1 - expected), 1e-9) / trials)


CASES = [(10, 1, 1), (10, 1, 5), (10, 3, 3), (20, 1, 10), (20, 19, 1), (5, 5, 1), (25, 2, 8)]


@pytest.mark.parametrize(("bucket_cells", "forged", "buckets"), CASES)
def test_forged_cells_are_found_as_often_as_appendix_a_computes(bucket_cells, forged, buckets):
    measured, expected = rate(bucket_cells, forged, buckets), computed(bucket_cells, forged, buckets)
    print(f"N={bucket_cells} k={forged} buckets={buckets}: {measured:.4f}, computed {expected:.4f}")
    assert agrees(measured, expected)


@pytest.mark.parametrize(("bucket_cells", "forged", "buckets"), [(10, 1, 5), (10, 3, 3), (25, 2, 8)])
def test_a_check_that_leaves_a_fifth_of_the_buckets_out_is_found(bucket_cells, forged, buckets):
    measured, expected = rate(bucket_cells, forged, buckets), computed(bucket_cells, forged, buckets)
    assert not agrees(0.8 * measured, expected)


def test_a_draw_that_the_relay_can_guess_is_found():
    """Only the first cell of each bucket is ever checked, and the relay forges any but that one."""

    class Knowing(random.Random):
        def sample(self, population, k):
            return super().sample(population[1:], k)

    found = sum(detected(Knowing(1), 10, 1, 5, lambda count: 0) for _ in range(200))
    assert found == 0
    assert not agrees(found / 200, computed(10, 1, 5))


def of_default(check=EchoCheck):
    """The share of circuits at 10 Mbit/s that are found within a second if a tenth of the echoes are forged."""
    buckets = 10 * BYTES_PER_MBIT // CELL_BYTES // DEFAULT_BUCKET_CELLS
    forged = DEFAULT_BUCKET_CELLS // 10
    measured = rate(DEFAULT_BUCKET_CELLS, forged, buckets, check=check, trials=600)
    return measured, computed(DEFAULT_BUCKET_CELLS, forged, buckets)


def test_the_default_finds_a_tenth_of_forged_echoes_within_a_second_at_10_mbps():
    """2,431 cells a second: 19 buckets of 125."""
    measured, expected = of_default()
    print(f"the default: {measured:.4f}, computed {expected:.4f}")
    assert expected == computed(125, 12, 19) > 0.85
    assert agrees(measured, expected, 600)
    assert 1 - (1 - expected) ** 3 > 0.996  # within three seconds


def test_a_check_that_leaves_a_third_of_the_buckets_out_is_found():
    class Sparse(EchoCheck):
        def verify(self):
            self._samples = [one for one in self._samples if one[0] // DEFAULT_BUCKET_CELLS % 3 < 2]
            super().verify()

    measured, expected = of_default(Sparse)
    assert not agrees(measured, expected, 600)


def test_each_bucket_draws_one_of_all_its_cells_and_any_cell_that_is_drawn_is_checked():
    class Forges(random.Random):
        def sample(self, population, k):
            return [place]

    cells, asked = DEFAULT_BUCKET_CELLS, []
    for place in range(cells):
        for drawn in (place, (place + 1) % cells):
            found = detected(Forges(), cells, 1, 2, lambda count, drawn=drawn: asked.append(count) or drawn)
            assert found == (drawn == place), f"cell {place} of a bucket, {drawn} drawn"
    assert asked == [cells] * (2 * 2 * cells)


def test_everyone_who_is_told_nothing_else_checks_as_many():
    option = inspect.signature(torclient).parameters["bucket_cells"].default
    core = inspect.signature(TorClientCore).parameters["bucket_cells"].default
    example = load_measurer(Path(config.__file__).parent / "examples" / "measurer.conf.example")
    everyone = {option.default, core, Settings(Path("data")).bucket_cells, example.bucket_cells}
    assert everyone == {DEFAULT_BUCKET_CELLS}
