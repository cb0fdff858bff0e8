"""A training that was killed goes on from its last state, to the same bits.

`Unfinished` keeps on disk what a job would lose: the state of the training at hand, saved now
and then, and the runs that are finished while others of the same job are still to come
(Snakemake deletes the outputs of a killed job). It gives back what was made by the same code,
settings, data, versions and machine, and nothing else: a file that is torn, altered or of
another identity is named in one line of the log and thrown away, and the training starts anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from vitrail import code_files
from vitrail.files import draft_of, read_json, sha256, whole_folder, write_json

EVERY = 30.0  # seconds between two states
SHARE = 0.01  # of the time of a training, the most that saving states may take
RECORD = "record.json"  # who made what is kept, and its checksums; written last
RUN = "run"  # the folder of a finished run
NAMED = 3  # differences of identity that are named in the log
State = dict[str, Any]


def conditions(patterns: Sequence[str], facts: dict[str, Any]) -> dict[str, Any]:
    """What decides the bits of a training beside its settings and its data.

    Args:
        patterns: names of the source files that decide it, as in `vitrail.code_files`.
        facts: those of `vitrail.device.environment`.
    """
    code = {
        path.relative_to(code_files.PACKAGE).as_posix(): sha256(path)
        for path in code_files.files(patterns)
    }
    machine = {key: facts[key] for key in ("device", "hardware", "threads")}
    machine["instructions"] = torch.backends.cpu.get_cpu_capability()
    return {"code": code, "versions": facts["versions"], "machine": machine}


def weights_sum(folder: Path | None) -> str | None:
    """SHA-256 of the weights in a run's folder; None without a folder or without weights there."""
    path = folder / "model.safetensors" if folder else None
    return sha256(path) if path and path.is_file() else None  # whoever loads them tells the user


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of the entries in which two contents of JSON differ, as `code train.py`."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [name] if one != other else []
    keys = sorted(one.keys() | other.keys())
    return [
        found
        for key in keys
        for found in differences(one.get(key), other.get(key), f"{name} {key}".strip())
    ]


class Unfinished:
    """The place of one run that is not finished, or whose job is not.

    Args:
        folder: of this run alone; made when there is something to keep.
        identity: what decides the outcome, as JSON; work of another identity is not used.
        every: seconds of training between two states; longer where saving is so slow that
            it would take more than `SHARE` of the time. 0: after every step.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], every: float = EVERY) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))  # as it will be read back
        self.every = every
        self._wait, self._last = every, time.perf_counter()

    def due(self) -> bool:
        """Whether it is time to save a state."""
        return time.perf_counter() - self._last >= self._wait

    def save(self, step: int, state: State) -> None:
        """Keep the state after a step in place of the last one, whole or not at all.

        A disk that refuses is named in the log, and the training goes on without.
        """
        begun = time.perf_counter()
        path = self.folder / f"{step}.pt"
        draft = draft_of(path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as stream:
                digest = _write(state, stream)
            draft.replace(path)
            self._record({path.name: digest})
        except (OSError, RuntimeError) as error:  # the second from torch's writer
            draft.unlink(missing_ok=True)
            self._say(f"step {step} could not be kept ({error}); the training goes on")
        now = time.perf_counter()
        self._wait = max(self.every, (now - begun) / SHARE) if self.every else 0.0
        self._last = now

    def state(self) -> State | None:
        """The last state that was saved, on the CPU; None without one that can be used."""
        names = self._usable()
        if not names or not re.fullmatch(r"\d+\.pt", names[0]):
            return None
        try:
            state: State = torch.load(self.folder / names[0], map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a file that torch did not write makes of it
            self._discard(f"{names[0]} is no state of a training ({type(error).__name__})")
            return None
        return state

    def keep(self, run: Path) -> None:
        """Keep a finished run's folder until its job is done; takes no space on most disks."""
        try:
            with whole_folder(self.folder / RUN) as draft:
                sums = _copy(run, draft)
            self._record({f"{RUN}/{name}": digest for name, digest in sums.items()})
        except OSError as error:
            self._say(f"the finished run could not be kept ({error}); the job goes on")

    def give_back(self, run: Path) -> bool:
        """Put a finished run that was kept in its place again; whether there was one."""
        names = self._usable()
        if not names or not names[0].startswith(f"{RUN}/"):
            return False
        there = sorted(f"{RUN}/{path.name}" for path in (self.folder / RUN).iterdir())
        if there != sorted(names):
            self._discard("other files lie in the folder of the finished run")
            return False
        with whole_folder(run) as draft:
            _copy(self.folder / RUN, draft)
            for path in draft.iterdir():
                os.utime(path)  # newer than the inputs of the job, as Snakemake wants it
        return True

    def clear(self) -> None:
        """Throw away what is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # not there, or the unfinished work of others is
            self.folder.parent.rmdir()

    def _record(self, files: dict[str, str]) -> None:
        """Name the files that count from now on, and throw away the others."""
        write_json(self.folder / RECORD, {"identity": self.identity, "files": files})
        kept = {RECORD, *(name.split("/")[0] for name in files)}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in kept:
                path.unlink(missing_ok=True)

    def _usable(self) -> list[str]:
        """Names of the files that are kept; none unless identity and checksums are right."""
        if not (self.folder / RECORD).is_file():
            return []
        try:
            record = read_json(self.folder / RECORD)
            other = differences(record["identity"], self.identity)
            files = dict(record["files"])
            wrong = [name for name, sum_ in files.items() if sha256(self.folder / name) != sum_]
        except Exception as error:  # whatever is wrong with a torn or foreign record
            self._discard(f"it is not whole ({error})")
            return []
        if other:
            more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
            self._discard(f"it was made with another {', '.join(other[:NAMED])}{more}")
        elif wrong:
            self._discard(f"{wrong[0]} has another checksum than when it was written")
        else:
            return list(files)
        return []

    def _discard(self, reason: str) -> None:
        self._say(f"unfinished work is not used: {reason}; starting anew")
        self.clear()

    def _say(self, message: str) -> None:
        print(f"{self.folder.name}: {message}", flush=True)


class _Hashed:
    """What `torch.save` writes to, with the checksum of what went through."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()

    def write(self, part: bytes) -> int:
        self.digest.update(part)
        return self.stream.write(part)

    def flush(self) -> None:
        self.stream.flush()


def _write(state: State, stream: IO[bytes]) -> str:
    """Write a state to the disk itself; its SHA-256."""
    hashed = _Hashed(stream)
    torch.save(state, hashed)  # type: ignore[arg-type]
    stream.flush()
    os.fsync(stream.fileno())
    return hashed.digest.hexdigest()


def _copy(source: Path, target: Path) -> dict[str, str]:
    """Link, or else copy, the files of a folder into another; their checksums by name."""
    sums = {}
    for path in sorted(source.iterdir()):
        try:
            os.link(path, target / path.name)
        except OSError:
            shutil.copy2(path, target / path.name)
        sums[path.name] = sha256(target / path.name)
    return sums


def state_of(
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    generators: Sequence[torch.Generator],
    device: torch.device,
) -> State:
    """Weights, what the optimisers know, and where all random numbers stand.

    The tensors are the very ones of the training: a state is to be saved before the next step.
    """
    return {
        "weights": [module.state_dict() for module in modules],
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "generators": [generator.get_state() for generator in generators],
        "random": torch.get_rng_state(),
        "random_of_device": _random_of(device),
    }


def restore(
    state: State,
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    generators: Sequence[torch.Generator],
    device: torch.device,
) -> None:
    """Bring a training that is set up alike to where `state_of` found it."""
    for module, weights in zip(modules, state["weights"], strict=True):
        module.load_state_dict(weights)
    for optimizer, known in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(known)
    for generator, stand in zip(generators, state["generators"], strict=True):
        generator.set_state(stand)
    torch.set_rng_state(state["random"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["random_of_device"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["random_of_device"])


def _random_of(device: torch.device) -> torch.Tensor | None:
    """Where the random numbers of a device stand; None for the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)  # waits for the steps in its queue
    return torch.mps.get_rng_state() if device.type == "mps" else None


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told to, so that a clock counts its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
