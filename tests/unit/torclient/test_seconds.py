from flashflow.model.reports import SecondReport
from flashflow.torclient.core.seconds import SecondCutter, SecondSums


def test_seconds_are_cut_at_their_boundaries():
    cutter = SecondCutter(first_s=100.0, dur_s=2)
    assert cutter.cut(99.9, 5, 4) == []
    assert cutter.cut(100.0, 10, 8) == []  # the warm-up's cells are left out, but for two on their way
    assert cutter.cut(100.9, 11, 9) == []
    assert cutter.cut(101.0, 13, 9) == [SecondReport(1, (2 + 3) * 514, 1 * 514)]
    assert cutter.cut(102.5, 20, 19) == [SecondReport(2, 7 * 514, 10 * 514)]
    assert cutter.cut(110.0, 99, 99) == []
    assert cutter.end_s == 102.0


def test_a_stall_over_several_seconds_leaves_empty_ones():
    cutter = SecondCutter(first_s=0.0, dur_s=3)
    assert cutter.cut(3.2, 7, 7) == [SecondReport(1, 0, 0), SecondReport(2, 0, 0), SecondReport(3, 0, 0)]


def test_a_stall_after_some_cells_counts_them_once():
    cutter = SecondCutter(first_s=0.0, dur_s=3)
    cutter.cut(0.0, 0, 0)
    assert cutter.cut(2.5, 7, 6) == [SecondReport(1, 7 * 514, 6 * 514), SecondReport(2, 0, 0)]


def test_sums_wait_for_every_worker():
    sums = SecondSums([0, 1])
    assert sums.add(0, SecondReport(1, 1, 10)) == []
    assert sums.add(0, SecondReport(2, 2, 20)) == []
    assert sums.add(1, SecondReport(1, 3, 30)) == [SecondReport(1, 4, 40)]
    assert sums.add(1, SecondReport(2, 4, 40)) == [SecondReport(2, 6, 60)]
    assert sums.add(1, SecondReport(3, 1, 1)) == []
    assert sums.add(0, SecondReport(3, 1, 1)) == [SecondReport(3, 2, 2)]


def test_a_cell_that_turned_out_to_be_no_echo_is_taken_off_the_next_second():
    cutter = SecondCutter(first_s=0.0, dur_s=3)
    cutter.cut(0.0, 0, 0)
    assert cutter.cut(1.0, 9, 5) == [SecondReport(1, 9 * 514, 5 * 514)]
    assert cutter.cut(2.0, 9, 4) == [SecondReport(2, 0, 0)]
    assert cutter.cut(3.0, 9, 7) == [SecondReport(3, 0, 2 * 514)]
