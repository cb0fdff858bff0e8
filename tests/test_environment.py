"""Machines that refuse: no room, no right to write, no memory, no home, a wrong clock.

The steps are real ones on small settings, or stubs under the real rules. File systems are
mounted in a namespace of the test's own, which goes with its process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from stub_project import SMOKE, STUB_HEAD, STUBS, Project, jobs
from vitrail import places
from vitrail.config import load
from vitrail.errors import run_command
from vitrail.files import sha256
from vitrail.setting_checks import checked
from vitrail.settings import MNIST_FILES, arm_id

ROOT = Path(__file__).parents[1]
Done = subprocess.CompletedProcess[str]
# The data step's sums are those of MNIST; this command trains on the stand-in of the tests.
TRAIN = """
import json, sys
from vitrail import data, train
from vitrail.errors import run_command
data.FILES.update(json.loads(sys.argv.pop(1)))
run_command(train.main)
"""


def unshared(script: str, folder: Path, **variables: str) -> Done:
    """Run a shell script with mounts of its own; its words are in `stdout`."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(
        ["unshare", *user, "--mount", "bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this process may not mount."""
    folder = tmp_path_factory.mktemp("mounted")
    try:
        done = unshared(f"mount -t tmpfs -o size=100k tmpfs {folder}", folder)
    except OSError as error:
        pytest.skip(f"unshare cannot be run ({error})")
    if done.returncode:
        pytest.skip(f"file systems cannot be mounted here: {done.stdout.strip()}")


@pytest.fixture(scope="module")
def stubbed(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The project with stubs for its steps, nothing computed."""
    project = Project(copy_project(tmp_path_factory.mktemp("stubbed") / "vitrail"))
    for name, body in STUBS.items():
        (project.folder / "src" / "vitrail" / name).write_text(STUB_HEAD + body)
    return project


PLAN = "python -m snakemake --cores 2 q1_patch_embedding --configfile config/smoke.yaml"


def sentences(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("vitrail: ")]


def in_project(project: Project, prepare: str, command: str = PLAN, **variables: str) -> Done:
    """A command in the project after some preparation, whose traces are cleared away."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {"PATH": path, "PYTHONPATH": str(project.folder / "src"), **variables}
    done = unshared(
        f"rm -rf results; mkdir results\n{prepare}\n{command}", project.folder, **variables
    )
    unshared("rm -rf results; mkdir results", project.folder)
    return done


WRONG_PLACES = [
    ("rmdir results; ln -s /nowhere/at/all results", "results is a link to /nowhere/at/all"),
    ("rmdir results; echo hello > results", "results is a file"),
    ("echo hello > results/smoke", "results/smoke is a file"),
    ("ln -s loop results/smoke; ln -s smoke results/loop", "results/smoke is a link to loop"),
    ("echo hello > results/data", "results/data is a file"),
    ("mount -t tmpfs -o ro tmpfs results", "results cannot be written to"),
    (
        "mkdir ../elsewhere; mount -t tmpfs -o ro tmpfs ../elsewhere\n"
        "rmdir results; ln -s ../elsewhere results",
        "results cannot be written to",
    ),
]


@pytest.mark.parametrize(("prepare", "said"), WRONG_PLACES, ids=[said for _, said in WRONG_PLACES])
def test_a_place_that_cannot_take_results_is_named_before_any_job(
    mounts: None, stubbed: Project, prepare: str, said: str
) -> None:
    done = in_project(stubbed, prepare)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert not jobs(done.stdout), "a job was started"
    (sentence,) = sentences(done.stdout)
    assert said in sentence


def test_a_dry_run_needs_no_right_to_write(mounts: None, stubbed: Project) -> None:
    done = in_project(stubbed, "mount -t tmpfs -o ro tmpfs results", f"{PLAN} -n")
    assert done.returncode == 0, done.stdout
    assert "Answer q1_patch_embedding" in done.stdout


def test_results_may_be_a_link_to_another_disk(mounts: None, stubbed: Project) -> None:
    prepare = "mkdir -p ../disk; mount -t tmpfs tmpfs ../disk; rmdir results; ln -s ../disk results"
    done = in_project(stubbed, prepare, f"{PLAN}; ls ../disk/smoke/q1_patch_embedding; {PLAN} -n")
    assert done.returncode == 0, done.stdout
    assert "answer.md" in done.stdout
    assert "Nothing to be done" in done.stdout


def test_a_full_disk_is_told_where_the_log_has_no_room(mounts: None, stubbed: Project) -> None:
    """And the same command goes on when there is room again."""
    prepare = "mount -t tmpfs -o size=128k tmpfs results; head -c 125000 /dev/zero > results/fill"
    go_on = f"if {PLAN}; then exit 3; fi\necho; echo AGAIN\nrm results/fill\n{PLAN}"
    done = in_project(stubbed, prepare, go_on)
    first, _, second = done.stdout.partition("AGAIN")
    assert "Traceback" not in first
    (sentence,) = [said for said in sentences(first) if "the disk of results has" in said]
    assert "MB left" in sentence
    assert "run the same command again" in sentence
    assert done.returncode == 0, done.stdout
    assert "Answer q1_patch_embedding" in second


PLACES_OF_SNAKEMAKE = [
    ("mount -t tmpfs -o ro tmpfs cache", "XDG_CACHE_HOME"),
    ("mkdir .snakemake; mount -t tmpfs -o ro tmpfs .snakemake", "keeps its notes there"),
    ("mkdir .snakemake; mount -t tmpfs -o size=64k tmpfs .snakemake", "is full"),
]


@pytest.mark.parametrize(("prepare", "said"), PLACES_OF_SNAKEMAKE)
def test_make_looks_for_what_snakemake_needs(
    mounts: None, stubbed: Project, prepare: str, said: str
) -> None:
    """Snakemake itself ends in a traceback there, before it reads a Snakefile."""
    check = "python -m vitrail.planning config/default.yaml config/smoke.yaml"
    done = in_project(
        stubbed, f"rm -rf .snakemake; mkdir -p cache\n{prepare}", check, XDG_CACHE_HOME="cache"
    )
    assert done.returncode == 1, done.stdout
    (sentence,) = sentences(done.stdout)
    assert said in sentence
    assert done.stdout.strip() == sentence


def test_make_checks_before_it_starts_snakemake() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nreport:")[2].partition("\n\n")[0]
    assert recipe.index("-m vitrail.planning") < recipe.index("$(SNAKEMAKE)")


def test_shortage_is_silent_where_there_is_room(tmp_path: Path) -> None:
    if places.shortage(tmp_path):
        pytest.skip("the disk of the tests is nearly full")
    assert places.shortage(tmp_path / "not" / "there") == ""


# --- Real trainings


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """A ViT that trains in a second on the stand-in of MNIST."""
    defaults = load([ROOT / "config" / "default.yaml"])["defaults"]
    small = {"train_size": 400, "validation": 100, "evaluations": 1, "embed_dim": 256}
    return checked({**defaults, **small}, {}, "defaults")


def training(data_folder: Path, settings: dict[str, Any], study: str, seeds: str) -> str:
    """The command, for a shell."""
    sums = {name: sha256(data_folder / name) for name in MNIST_FILES}
    return (
        f"{sys.executable} -c '{TRAIN}' '{json.dumps(sums)}' --settings '{json.dumps(settings)}'"
        f" --seeds {seeds} --data {data_folder} --study {study} --device cpu"
    )


def test_a_full_disk_keeps_the_runs_that_are_finished(
    mounts: None, data_folder: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The second network has no room: safetensors says so in an error of its own."""
    train = training(data_folder, settings, "disk/study", "0 1")
    script = (
        "mkdir disk; mount -t tmpfs -o size=16m tmpfs disk\n"
        f"if {train}; then exit 3; fi\nfind disk -name summary.json; find disk -name '.*'\n"
        "echo AGAIN; mount -o remount,size=64m disk\n"
        f"{train}\nfind disk -name summary.json"
    )
    done = unshared(script, tmp_path)
    first, _, second = done.stdout.partition("AGAIN")
    assert done.returncode == 0, done.stdout[-3000:]
    (sentence,) = sentences(first)
    assert "No space left on device" in sentence
    assert "run the same command again" in sentence
    assert "Traceback" not in first
    run = f"disk/study/runs/{arm_id(settings)}"
    assert f"{run}-s0/summary.json" in first, "the finished run is kept"
    assert f"{run}-s1" not in first.replace(sentence, "").partition("disk/")[2]
    assert f"{run}-s1/summary.json" in second


GIB = 1 << 30


@pytest.mark.skipif(sys.platform != "linux", reason="limits of data are Linux's")
@pytest.mark.parametrize(("limit", "enough"), [(2 * GIB, True), (0.9 * GIB, False)])
def test_two_gigabytes_are_enough_and_less_is_told(
    data_folder: Path, settings: dict[str, Any], tmp_path: Path, limit: float, enough: bool
) -> None:
    """What a process may allocate; measured: the base ViT needs about 1.2 GB of it."""
    train = training(data_folder, settings, str(tmp_path), "0")
    if not enough:  # torch alone fits, a batch of all images at once does not
        train = train.replace('"batch_size": 64', '"batch_size": 400')
    done = subprocess.run(
        ["bash", "-c", f"ulimit -d {int(limit) >> 10}; {train}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    if enough:
        assert done.returncode == 0, done.stdout[-3000:]
        return
    assert done.returncode == 1, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    (sentence,) = sentences(done.stdout)
    assert "not enough memory" in sentence
    assert not list(tmp_path.rglob("summary.json"))


FAULTS: list[tuple[Exception, str]] = [
    (MemoryError(), "not enough memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
    (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
    (RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: X]"), "is full"),
    (RuntimeError("attempt to write a readonly database"), "cannot be written to"),
    (OSError(28, "No space left on device"), "No space left on device"),
]


@pytest.mark.parametrize(("error", "said"), FAULTS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_machine_lacks_is_a_sentence(error: Exception, said: str, wrapped: bool) -> None:
    def main() -> None:
        if wrapped and not isinstance(error, OSError):
            raise ValueError("of a library") from error
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert said in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_of_the_machine_keeps_its_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        run_command(main)


# --- Clocks

DAYS = 10 * 24 * 3600  # in seconds


def move(files: list[Path], seconds: float) -> None:
    """Give files the time of so many seconds from now."""
    for file in files:
        os.utime(file, (time.time() + seconds, time.time() + seconds))


def test_clocks_decide_nothing(stubbed: Project) -> None:
    """Neither a clock that ran ahead nor one that was set back reruns or skips anything."""
    study = ("--cores", "2", "q1_patch_embedding", "--configfile", SMOKE)
    in_project(stubbed, "")
    assert stubbed.snakemake(*study).returncode == 0

    def planned() -> set[str]:
        done = stubbed.snakemake("-n", *study)
        assert done.returncode == 0, done.stdout
        return jobs(done.stdout)

    assert planned() == set()
    data = [stubbed.folder / "results" / "data" / name for name in MNIST_FILES]
    # Larger than what Snakemake compares by content, as MNIST is.
    data[0].write_bytes(os.urandom(2_000_000))
    code = list((stubbed.folder / "src").rglob("*.py"))
    made = [path for path in (stubbed.folder / "results").rglob("*") if path.is_file()]
    for files in (data, code, made):
        for seconds in (DAYS, -DAYS):
            move(files, seconds)
            assert planned() == set()
    with stubbed.changed("src/vitrail/optimizers.py", "# another version\n"):
        move([stubbed.folder / "src" / "vitrail" / "optimizers.py"], -1000 * DAYS)
        assert any(job.startswith("Train ") for job in planned()), "stale, and taken for fresh"
    assert planned() == set()
