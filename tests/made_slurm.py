"""A SLURM cluster on this machine: munged, slurmctld and a slurmd for each of its nodes.

A node has a host name and process numbers of its own (namespaces), so that it can die as machines
die, with everything that is at work on it, and nothing on it can look for a process of the host
that submits. All files lie in one folder. What the nodes read in /etc/slurm is mounted there for
them alone; the other commands find the same by SLURM_CONF.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

NODES = ("vitrail1", "vitrail2")  # one CPU each, where jobs go that ask for nothing else
WIDE = "vitrail3"  # two CPUs, a partition of its own
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "unshare", "setpriv")
PATH = os.environ.get("PATH", "") + ":/usr/sbin"  # where Debian keeps the daemons
UP = 60.0  # seconds in which the cluster has to be there
CONF = """\
ClusterName=vitrail
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=2
ReturnToService=2
SlurmdTimeout=6
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
PartitionName=urgent Nodes={nodes} PriorityTier=10 MaxTime=INFINITE State=UP
PartitionName=wide Nodes={wide} MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=16000 Gres=gpu:1\n"
# Run in the namespaces of a node.
BEGIN = 'hostname "$1" && mount --bind "$2/etc" /etc/slurm && exec slurmd -D'
SPACES = ("--uts", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")


@functools.cache
def lacking() -> str:
    """Why no cluster can be started here; '' if one can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]:
        return f"SLURM is not installed here ({', '.join(missing)}; Debian: slurm-wlm, munge)"
    if not Path("/etc/slurm").is_dir():
        return "SLURM is not installed here (no /etc/slurm)"
    command = ["unshare", *SPACES, "mount", "-t", "tmpfs", "none", "/etc/slurm"]
    tried = subprocess.run(command, capture_output=True, text=True)
    return f"file systems cannot be mounted here: {tried.stderr.strip()}" * (tried.returncode != 0)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Cluster:
    """The running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "etc" / "slurm.conf"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("etc", "state", *NODES, WIDE):
            (folder / name).mkdir(parents=True)
        text = CONF.format(
            host=socket.gethostname(), port=free_port(), folder=folder, nodes=",".join(NODES),
            wide=WIDE,
        )  # fmt: skip
        for name in (*NODES, WIDE):
            text += NODE.format(name=name, port=free_port(), cpus=2 if name == WIDE else 1)
        self.conf.write_text(text)
        # Nobody computes on it: SLURM only has to have a device to give away.
        (folder / "etc" / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))

    def environment(self) -> dict[str, str]:
        """What a command needs in order to find this cluster."""
        return {"SLURM_CONF": str(self.conf)}

    def everything(self) -> dict[str, str]:
        """The environment of this process with it."""
        return os.environ | self.environment()

    def start(self) -> None:
        at = self.folder
        self._begin(
            "munged", "munged", "--foreground", "--force", f"--socket={at}/munge.socket",
            f"--key-file={at}/munge.key", f"--pid-file={at}/munged.pid",
            f"--seed-file={at}/munged.seed", f"--log-file={at}/munged.log",
        )  # fmt: skip
        self._wait(lambda: (at / "munge.socket").exists(), "munged")
        self._begin("slurmctld", "slurmctld", "-D")
        for name in (*NODES, WIDE):
            self.start_node(name)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        self._wait(lambda: self.states() == dict.fromkeys((*NODES, WIDE), "idle"), "the nodes")

    def start_node(self, name: str) -> None:
        self._begin(name, "unshare", *SPACES, "sh", "-c", BEGIN, "sh", name, str(self.folder))

    def crash(self, name: str) -> None:
        """A node is gone at once, with every process on it."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)  # --kill-child: the first process of the namespace too
        process.wait()

    def states(self) -> dict[str, str]:
        lines = self.ask("sinfo", "--Node", "--noheader", "--format", "%N %t").splitlines()
        return dict(line.split() for line in lines)

    def jobs(self, *states: str) -> dict[str, list[str]]:
        """Job ids with state, node, comment and times restarted."""
        ends = (20, 40, 60, 66, 266)  # of the columns; any of them may be empty
        form = "jobid:20,state:20,nodelist:20,restartcnt:6,comment:200"
        wanted = ",".join(states) or "all"
        lines = self.ask("squeue", "--noheader", f"--states={wanted}", "--Format", form)
        rows = [
            [line[at:end].strip() for at, end in zip((0, *ends), ends, strict=False)]
            for line in lines.splitlines()
        ]
        return {number: about for number, *about in rows}

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.everything(), capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def _begin(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command], stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, cwd=self.folder, start_new_session=True,
                env=self.everything() | {"PATH": PATH},
            )  # fmt: skip

    def _wait(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + UP
        while not true():
            if time.monotonic() > end:
                said = "".join(path.read_text()[-2000:] for path in self.folder.glob("*.out"))
                pytest.fail(f"{what} did not come up:\n{said}")
            time.sleep(0.2)

    def stop(self) -> None:
        self.ask("scancel", "--user=root", "--signal=KILL")
        for name in reversed(list(self.processes)):
            process = self.processes.pop(name)
            with contextlib.suppress(psutil.Error):  # one that has ended by itself
                for one in psutil.Process(process.pid).children(recursive=True):
                    one.kill()
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All nodes, up for all tests of the session."""
    if why := lacking():
        pytest.skip(why)
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
