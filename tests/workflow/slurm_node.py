"""A SLURM of one node on this machine, started and stopped by a test: no systemd, no accounting, one simulated GPU.

The GPU is a device file that SLURM counts as one: it decides who waits for whom and sets CUDA_VISIBLE_DEVICES.
Eight cores are claimed however many there are, so that jobs queue as they would on a real node.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

ETC = Path("/etc/slurm")
CPUS = 8
MEMORY_MB = 40_000

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
# linuxproc leaves processes behind after a timeout, and there are no control groups to ask
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=100000,bf_interval=1
ReturnToService=2
# finished jobs are asked for with squeue and scontrol
MinJobAge=3600
KillWait=3
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no SLURM can be started here; empty if one can."""
    if os.getuid() != 0:
        return "starting SLURM's daemons needs root"
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))):
        return "SLURM is not installed: apt-get install --no-install-recommends slurm-wlm munge"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "Snakemake's plugin is not installed: pip install --constraint constraints.txt --editable '.[slurm]'"
    if (ETC / "slurm.conf").exists():
        return f"{ETC}/slurm.conf is there: this machine has a SLURM of its own"
    return ""


class SlurmNode:
    """Context manager; removes what it wrote and ends what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self.munge = Path("/run/munge/munged.pid")
        self.started_munge = False

    def __enter__(self) -> SlurmNode:
        try:
            self._start()
        except BaseException:
            self.__exit__()  # what is left behind would look like a SLURM of the machine's own
            raise
        return self

    def _start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        gpu = self.folder / "gpu"
        os.mknod(gpu, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        values = {"host": self.host, "folder": self.folder, "cpus": CPUS, "memory": MEMORY_MB}
        (ETC / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (ETC / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={gpu}\n")
        (ETC / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        if not (self.munge.exists() and Path(f"/proc/{self.munge.read_text().strip()}").exists()):
            self.munge.parent.mkdir(mode=0o755, exist_ok=True)
            shutil.chown(self.munge.parent, "munge", "munge")
            subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force"], check=True)
            self.started_munge = True
        subprocess.run(["slurmctld"], check=True)
        subprocess.run(["slurmd", "-N", self.host], check=True)
        deadline = time.monotonic() + 30
        while self.ask("sinfo", "--noheader", "--format=%T").strip() != "idle":
            assert time.monotonic() < deadline, (self.folder / "slurmctld.log").read_text()[-3000:]
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", f"--user={os.getuid()}"], check=False)
        pids = [
            self.folder / "slurmd.pid",
            self.folder / "slurmctld.pid",
            *([self.munge] if self.started_munge else []),
        ]
        for pid in pids:
            if pid.exists():
                os.kill(int(pid.read_text()), 15)
        for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
            (ETC / name).unlink(missing_ok=True)

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def jobs(self, folder: Path) -> list[dict[str, str]]:
        """What ``scontrol`` knows of every job of a folder, oldest first."""
        blocks = self.ask("scontrol", "--oneliner", "show", "job").splitlines()
        jobs = [dict(item.partition("=")[::2] for item in block.split() if "=" in item) for block in blocks]
        mine = [job for job in jobs if job.get("WorkDir") == str(folder)]
        return sorted(mine, key=lambda job: int(job["JobId"]))
