"""Per-second counts: a worker cuts its running totals at the seconds' boundaries, the control process adds them up."""

from collections.abc import Iterable

from flashflow.model.reports import SecondReport
from flashflow.model.units import CELL_BYTES


class SecondCutter:
    """Cuts running totals of cells at the boundaries of seconds 1..dur_s, the first of which begins at `first_s`."""

    def __init__(self, first_s: float, dur_s: int) -> None:
        self._first_s = first_s
        self._dur_s = dur_s
        self._next = 0
        self._sent_cells = 0
        self._recv_cells = 0

    @property
    def next_s(self) -> float:
        """When the next boundary is."""
        return self._first_s + self._next

    @property
    def end_s(self) -> float:
        """When the last second ends."""
        return self._first_s + self._dur_s

    def cut(self, now_s: float, sent_cells: int, recv_cells: int) -> list[SecondReport]:
        """The seconds that ended up to now, given the totals before anything that happened since.

        What was outstanding as the first one began is in its `sent_bytes`.
        A total that fell, by a cell that turned out to be no echo, is made up for in the next seconds.
        """
        recv_cells = max(recv_cells, self._recv_cells)
        reports: list[SecondReport] = []
        while self._next <= self._dur_s and self.next_s <= now_s:
            if self._next > 0:
                sent = (sent_cells - self._sent_cells) * CELL_BYTES
                recv = (recv_cells - self._recv_cells) * CELL_BYTES
                reports.append(SecondReport(self._next, sent, recv))
            self._sent_cells, self._recv_cells = sent_cells if self._next else recv_cells, recv_cells
            self._next += 1
        return reports


class SecondSums:
    """Adds up the reports of several workers; a second is complete when each of them has reported it."""

    def __init__(self, workers: Iterable[int]) -> None:
        self._reports: dict[int, list[SecondReport]] = {worker: [] for worker in workers}
        self._complete = 0

    def add(self, worker: int, report: SecondReport) -> list[SecondReport]:
        """The sums that are complete with this report, by ascending second."""
        self._reports[worker].append(report)
        sums: list[SecondReport] = []
        while all(len(reports) > self._complete for reports in self._reports.values()):
            parts = [reports[self._complete] for reports in self._reports.values()]
            self._complete += 1
            sent, recv = sum(part.sent_bytes for part in parts), sum(part.recv_bytes for part in parts)
            sums.append(SecondReport(self._complete, sent, recv))
        return sums
