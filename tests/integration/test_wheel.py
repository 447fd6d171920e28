"""The wheel, installed into an empty environment outside the checkout, runs the demo."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `make dist` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_three_packages_and_their_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "coordinator",
        "measurer",
        "flashflow",
    }
    for path in ROOT.joinpath("flashflow").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.faults  # a whole deployment, in an environment filled from the package index: it takes a minute
@pytest.mark.timeout(400)
def test_an_installation_from_the_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """Dependencies come from the same lock that make uses."""
    python = tmp_path / "env" / "bin" / "python"
    venv.create(tmp_path / "env", with_pip=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: str, seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=seconds
        )

    for lock in ("build", "run"):
        options = [
            "--quiet",
            "--require-hashes",
            "--no-build-isolation",
            "-r",
            str(ROOT / f"requirements/{lock}.lock"),
        ]
        installed = run(str(python), "-m", "pip", "install", *options, seconds=240)
        assert installed.returncode == 0, installed.stderr
    installed = run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel), seconds=60)
    assert installed.returncode == 0, installed.stderr

    where = run(str(python), "-c", "import flashflow; print(flashflow.__file__)", seconds=30)
    assert str(tmp_path) in where.stdout
    flashflow = str(tmp_path / "env" / "bin" / "flashflow")
    shown = run(flashflow, "demo", "--rates", "10", "--duration", "3", "--out", "out", "--json", seconds=90)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    made = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert made == json.loads(shown.stdout.splitlines()[0])
    assert Path(made["v3bw"]).read_text().count("node_id=") == 1
