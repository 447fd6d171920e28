"""Any text is a configuration or is refused in one line that names the file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashflow.config.coord import DEFAULTS as COORD_DEFAULTS
from flashflow.config.coord import load_coord
from flashflow.config.measurer import DEFAULTS as MEASURER_DEFAULTS
from flashflow.config.measurer import load_measurer
from flashflow.model.errors import UsageError

LINES = st.sampled_from(sorted({*COORD_DEFAULTS.splitlines(), *MEASURER_DEFAULTS.splitlines()}))
VALUES = (
    st.text(max_size=12)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["${a}", "$$X", "~", "%"])
)
BENT = st.builds(lambda line, value: f"{line.partition('=')[0]}= {value}", LINES, VALUES)
FILES = st.lists(LINES | BENT | st.text(max_size=20), max_size=12).map("\n".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@given(text=FILES, section=st.sampled_from(["", "[coord]\n", "[meas_params]\n", "[measurer]\n"]))
def test_any_text(folder: Path, text: str, section: str) -> None:
    path = folder / "some.conf"
    path.write_bytes((section + text).encode(errors="surrogatepass"))
    for load in (load_coord, load_measurer):
        try:
            config = load(path)
        except UsageError as error:
            reason = error.reason
        else:
            reason = f"{path}: fine"
            assert config.datadir.is_absolute()
        assert reason.startswith(f"{path}: ")
        assert len(reason.splitlines()) == 1
