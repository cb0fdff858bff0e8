"""Unfinished work on disk: whose it is, whether it is whole, and what a kill leaves of a job."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from made_attempts import SAME, Attempts, Interrupted, Killed, flip, small_vit
from made_run import reseal
from vitrail import code_files, train, weights
from vitrail.files import read_json, sha256, write_json
from vitrail.pretraining import __main__ as pretraining
from vitrail.resume import RECORD, Unfinished, differences
from vitrail.settings import arm_id, relevant, run_id

Settings = dict[str, Any]
ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.fixture
def vit(config: Settings) -> Settings:
    return small_vit(config)


# --- The files


def state() -> Settings:
    return {"step": 3, "weights": torch.arange(1000.0), "log": {"history": [{"loss": 0.1}]}}


@pytest.fixture
def saved(tmp_path: Path) -> Unfinished:
    """A place with a state in it."""
    unfinished = Unfinished(tmp_path / "unfinished" / "run", {"seed": 0, "code": {"a.py": "1"}})
    unfinished.save(3, state())
    return unfinished


def test_what_is_saved_comes_back(saved: Unfinished) -> None:
    """The last state alone, and nothing after `clear`, not even the folder of all of them."""
    saved.save(5, {**state(), "step": 5})
    found = saved.state()
    assert found is not None and found["step"] == 5
    assert torch.equal(found["weights"], state()["weights"])
    assert found["log"] == state()["log"]
    assert sorted(path.name for path in saved.folder.iterdir()) == ["5.pt", RECORD]
    saved.clear()
    assert saved.state() is None
    assert not saved.folder.parent.exists()


@pytest.mark.parametrize("name", ["3.pt", RECORD])
@pytest.mark.parametrize("place", [0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1])
def test_a_flipped_bit_is_noticed(
    saved: Unfinished, name: str, place: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a tensor as anywhere else; the last byte of the record is its line feed."""
    flip(saved.folder / name, place)
    assert saved.state() is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("run: unfinished work is not used: ")
    assert line.endswith("; starting anew")
    assert not saved.folder.exists()


@pytest.mark.parametrize("name", ["3.pt", RECORD])
@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_torn_file_is_noticed(saved: Unfinished, name: str, left: int) -> None:
    path = saved.folder / name
    path.write_bytes(path.read_bytes()[:left])
    assert saved.state() is None


def test_a_state_that_is_gone_is_noticed(saved: Unfinished) -> None:
    (saved.folder / "3.pt").unlink()
    assert saved.state() is None


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("went-off"),)


@pytest.mark.parametrize("by_torch", [True, False])
def test_a_pickle_bomb_is_refused(
    saved: Unfinished, by_torch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with the checksum in the record: nothing in it is run."""
    monkeypatch.chdir(tmp_path)
    path = saved.folder / "3.pt"
    if by_torch:
        torch.save({"step": 3, "weights": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    saved._record({"3.pt": sha256(path)})
    assert saved.state() is None
    assert not (tmp_path / "went-off").exists()


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"identity": {}, "files": [1]}', "null"])
def test_a_foreign_record_is_refused(saved: Unfinished, content: str) -> None:
    (saved.folder / RECORD).write_text(content)
    assert saved.state() is None


def test_a_record_names_files_of_its_own_folder_alone(saved: Unfinished, tmp_path: Path) -> None:
    """Neither a state nor a run from elsewhere, whatever checksum is given."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    torch.save(state(), elsewhere / "3.pt")
    for name in ("../../elsewhere/3.pt", str(elsewhere / "3.pt"), "run/../../../elsewhere/3.pt"):
        (saved.folder / "run").mkdir(parents=True, exist_ok=True)
        write_json(
            saved.folder / RECORD,
            {"identity": saved.identity, "files": {name: sha256(elsewhere / "3.pt")}},
        )
        assert saved.state() is None
        assert not saved.give_back(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_refuses_stops_no_training(
    saved: Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last state that could be written stays; one line says that a later one could not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        saved.save(4, state())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().out.startswith("run: step 4 could not be kept (")
    found = saved.state()
    assert found is not None and found["step"] == 3
    assert sorted(path.name for path in saved.folder.iterdir()) == ["3.pt", RECORD]


def test_a_state_is_on_the_disk_before_it_has_its_name(
    saved: Unfinished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, or a loss of power could leave the name with a part of the content."""
    path, synced, real = saved.folder / "4.pt", {}, os.fsync

    def watched(descriptor: int) -> None:
        real(descriptor)
        about = os.fstat(descriptor)
        synced[about.st_ino] = (about.st_size, path.exists())

    monkeypatch.setattr(os, "fsync", watched)
    saved.save(4, state())
    about = path.stat()
    assert synced[about.st_ino] == (about.st_size, False)


def test_a_run_that_is_given_back_is_newer_than_what_it_was_made_of(tmp_path: Path) -> None:
    """By its times Snakemake would otherwise make it once more."""
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    (run / "history.csv").write_text("step\n")
    unfinished = Unfinished(tmp_path / "unfinished" / "one", {})
    unfinished.keep(run)
    shutil.rmtree(run)
    for path in (unfinished.folder / "run").iterdir():
        os.utime(path, (1, 1))  # made long ago
    made_of = tmp_path / "input"
    made_of.touch()
    assert unfinished.give_back(run)
    assert sorted(path.name for path in run.iterdir()) == ["history.csv", "summary.json"]
    for path in run.iterdir():
        assert path.stat().st_mtime_ns >= made_of.stat().st_mtime_ns, path.name


def test_slow_disks_are_written_to_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving takes at most a hundredth of the time, however long it takes."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    unfinished = Unfinished(tmp_path / "run", {}, every=30)
    real = unfinished._record

    def slow(files: dict[str, str]) -> None:
        nonlocal now
        real(files)
        now += 2

    monkeypatch.setattr(unfinished, "_record", slow)
    saving = []
    for second in range(1, 601):
        now += 1
        if unfinished.due():
            saving.append(second)
            unfinished.save(second, {})
    assert saving == [30, 230, 430]


def test_differences_are_named() -> None:
    one = {"code": {"a.py": "1", "b.py": "2"}, "seed": 0, "start": None}
    assert differences(one, one) == []
    other = {"code": {"a.py": "1", "b.py": "3", "c.py": "4"}, "seed": 1, "start": None}
    assert differences(one, other) == ["code b.py", "code c.py", "seed"]


# --- Whose work it is


@pytest.fixture
def attempts(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return Attempts(tmp_path / "study", data_folder, monkeypatch, [20])


def made_start(study: Path, vit: Settings, seed: int) -> None:
    torch.manual_seed(seed)
    folder = study / "pretraining" / "made"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(train.build(vit).state_dict(), folder / "model.safetensors")


def made_weights(study: Path, seed: int) -> None:
    import timm

    torch.manual_seed(seed)
    path = study / "test_vit.r160_in1k.safetensors"
    study.mkdir(exist_ok=True)
    save_file(timm.create_model("test_vit").state_dict(), path)
    found = weights.find("test_vit", "r160_in1k", str(path))
    assert found["status"] == "available", found
    write_json(study / "weights.json", found)


def other_code(attempts: Attempts, name: str) -> None:
    package = attempts.study.parent / "package"
    shutil.copytree(ROOT / "src" / "vitrail", package)
    with (package / name).open("a") as stream:
        stream.write("# another line\n")
    attempts.patch.setattr(code_files, "PACKAGE", package)


def other_version(attempts: Attempts, package: str) -> None:
    real = importlib.metadata.version
    attempts.patch.setattr(
        importlib.metadata, "version", lambda name: "0.1" if name == package else real(name)
    )


def other_machine(attempts: Attempts, key: str, value: Any) -> None:
    real = train.environment
    attempts.patch.setattr(train, "environment", lambda device: real(device) | {key: value})


def other_data(attempts: Attempts) -> None:
    flip(attempts.data / "train-images-idx3-ubyte", 0.5)


CHANGES: dict[str, Callable[[Attempts], None]] = {
    "code train.py": lambda it: other_code(it, "train.py"),
    "code model/vit.py": lambda it: other_code(it, "model/vit.py"),
    "code resume.py": lambda it: other_code(it, "resume.py"),
    "versions torch": lambda it: it.patch.setattr(torch, "__version__", "2.0"),
    "versions timm": lambda it: other_version(it, "timm"),
    "versions numpy": lambda it: other_version(it, "numpy"),
    "machine hardware": lambda it: other_machine(it, "hardware", "another processor"),
    "machine threads": lambda it: other_machine(it, "threads", 2),
    # The processor's name tells them too; beside a GPU's name they stand alone.
    "machine hardware, machine instructions": lambda it: it.patch.setattr(
        torch.backends.cpu, "get_cpu_capability", lambda: "another"
    ),
    "machine device": lambda it: other_machine(it, "device", "cuda"),
    "data train-images-idx3-ubyte": other_data,
}


@pytest.mark.parametrize("named", CHANGES)
def test_work_of_other_conditions_is_not_used(
    named: str, attempts: Attempts, vit: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said in a line that names what differs; the run is that of the new conditions."""
    with pytest.raises(Interrupted):
        attempts(vit)
    CHANGES[named](attempts)
    attempts.stops.clear()
    folder = attempts(vit)
    printed = capsys.readouterr().out
    assert f"{folder.name}: unfinished work is not used: it was made with another {named};" in (
        printed
    )
    assert "resumed" not in printed
    anew = attempts(vit, study=attempts.study.parent / "anew")
    for name in SAME:
        assert (folder / name).read_bytes() == (anew / name).read_bytes()
    assert "resumed_at_steps" not in read_json(folder / "env.json")


@pytest.mark.parametrize("named", ["start", "teacher", "weights"])
def test_work_from_another_start_is_not_used(
    named: str, attempts: Attempts, vit: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights to start from, or to learn from, that have other values."""
    study, settings = attempts.study, dict(vit)
    if named == "start":
        settings["start"] = "made"
        made_start(study, vit, 1)
    elif named == "weights":
        own = {"model": "timm", "timm_model": "test_vit", "pretrained": "r160_in1k"}
        own |= {"patch_size": 14, "optimizer": "adamw", "pixel_mean": 0.5, "pixel_std": 0.5}
        settings = relevant({**vit, **own, "img_size": 28})
        made_weights(study, 1)
    else:
        attempts.stops.clear()
        taught = {**vit, "depth": 1}
        taught_by = attempts(taught)
        settings["teacher"] = arm_id(taught)
        attempts.stops.append(20)
    with pytest.raises(Interrupted):
        attempts(settings)
    if named == "start":
        made_start(study, vit, 2)
    elif named == "weights":
        made_weights(study, 2)
    else:
        content = load_file(taught_by / "model.safetensors")
        content["head.bias"][0] += 1
        save_file(content, taught_by / "model.safetensors")
        reseal(taught_by)
    attempts.stops.clear()
    attempts(settings)
    printed = capsys.readouterr().out
    assert f"it was made with another {named};" in printed and "resumed" not in printed


def test_work_of_another_arm_or_seed_is_not_used(
    attempts: Attempts, vit: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even when it lies in the place of this one."""
    with pytest.raises(Interrupted):
        attempts(vit)
    place = attempts.study / "unfinished"
    mine = place / run_id(arm_id(vit), 0)
    other = {**vit, "learning_rate": 0.01}
    shutil.copytree(mine, place / run_id(arm_id(vit), 1))
    shutil.copytree(mine, place / run_id(arm_id(other), 0))
    attempts.stops.clear()
    attempts(vit, seed=1)
    assert "it was made with another seed;" in capsys.readouterr().out
    attempts(other)
    assert "it was made with another settings learning_rate;" in capsys.readouterr().out
    attempts(vit)
    assert "resumed at step 20 of 30" in capsys.readouterr().out
    assert not place.exists()


def test_a_damaged_state_is_said_and_the_run_is_right(
    attempts: Attempts, vit: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        attempts(vit)
    flip(attempts.study / "unfinished" / run_id(arm_id(vit), 0) / "20.pt", 0.4)
    attempts.stops.clear()
    folder = attempts(vit)
    assert "20.pt has another checksum than when it was written" in capsys.readouterr().out
    anew = attempts(vit, study=attempts.study.parent / "anew")
    for name in SAME:
        assert (folder / name).read_bytes() == (anew / name).read_bytes()


def test_work_of_another_pretraining_is_not_used(
    vit: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, out = torch.device("cpu"), tmp_path / "start"
    asked: Settings = {"model": vit, "train_size": 500}
    asked["recipe"] = {"classes": 10, "steps": 30, "batch_size": 16}
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(pretraining, "Unfinished", lambda *given: Killed(*given[:2], [20]))
        with pytest.raises(Interrupted):
            pretraining.pretrain(asked, tmp_path, out, cpu)
    kept = tmp_path / "unfinished" / "start"
    shutil.copytree(kept, tmp_path / "again" / "unfinished" / "start")
    pretraining.pretrain(asked, tmp_path, out, cpu)
    assert "resumed at step 20 of 30" in capsys.readouterr().out
    assert read_json(out / "env.json")["resumed_at_steps"] == [20]
    asked["recipe"]["seed"] = 1
    pretraining.pretrain(asked, tmp_path, tmp_path / "again" / "start", cpu)
    printed = capsys.readouterr().out
    assert "it was made with another recipe seed;" in printed and "resumed" not in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "start"]
