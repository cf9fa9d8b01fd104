"""How a job runs on a machine: device, batch size and progress. No result is meant to depend on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_pruner.system.device import limit_threads, pick_device


@dataclass(frozen=True)
class Runtime:
    """Device, batch size and progress display of a job."""

    device: str = "auto"
    """A device string of torch, or ``auto``: the GPU with the most free memory, else the CPU."""
    batch_size: int = 8
    """Samples run at once."""
    progress: bool = False
    """Show progress bars on stderr."""

    def start(self) -> Runtime:
        """The same runtime with ``auto`` resolved to a device. Also limits torch to the job's threads."""
        limit_threads()
        return replace(self, device=pick_device(self.device))


AUTO = Runtime()
"""Default of jobs."""
ON_CPU = Runtime("cpu")
"""Default of functions within a job, which look for no device."""
