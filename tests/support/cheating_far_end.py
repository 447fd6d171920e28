"""`flashflow relay --far-end` that cheats as the file named by CHEAT_FILE says; and a measurer that starts it.

`python cheating_far_end.py measurer …` is `flashflow measurer` whose far ends are this program.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from flashflow.cli import main
from flashflow.cli import relay as relay_command
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES
from flashflow.relay.farend import FarEndServer
from flashflow.relay.looping import LoopCircuits
from flashflow.shell.parent import follow_parent
from measurer.outputs import far_end

CHEAT_FILE = "CHEATING_FAR_END"
"""Environment variable: a file with the cheat's name; without the file the far end is honest."""
INVENTED_CELLS = 1000


class Change(LoopCircuits):
    """Changes a byte of each cell that it passes on."""

    def _turn(self, run, stream):
        known = super()._turn(run, stream)
        for cell in range(run[1], run[2]):
            stream[cell * PAYLOAD_BYTES + 100] ^= 1
        return known


class Drop(LoopCircuits):
    """Keeps the first cell of each run of several."""

    def _loop(self, cells):
        super()._loop(cells[1:] if len(cells) > 1 else cells)


class Invent(LoopCircuits):
    """Repeats the last cell many times."""

    def _loop(self, cells):
        super()._loop(cells)
        last = np.frombuffer(self._out.filled()[-CELL_BYTES:], np.uint8)
        self._out.add(np.tile(last, min(INVENTED_CELLS, self._out.free_bytes // CELL_BYTES // 2)).tobytes())


CHEATS = {"change": Change, "drop": Drop, "invent": Invent, "honest": LoopCircuits}


class CheatingFarEnd(FarEndServer):
    """Its circuits are those of the cheat."""

    def make_circuits(self, keys, out):
        path = Path(os.environ[CHEAT_FILE])
        return CHEATS[path.read_text() if path.exists() else "honest"](keys, out)


def command(*args: str) -> list[str]:
    """The command line of `flashflow ARGS` with cheating far ends."""
    return [sys.executable, str(Path(__file__).resolve()), *args]


if __name__ == "__main__":
    follow_parent()
    relay_command.FarEndServer = CheatingFarEnd
    far_end.own_command = command
    sys.exit(main(sys.argv[1:]))
