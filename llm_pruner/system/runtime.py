"""How a job runs on a machine, as opposed to what it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_pruner.system.device import limit_threads, pick_device


@dataclass(frozen=True)
class Runtime:
    """Where a job computes, how much at once, and whether it tells how far it is."""

    device: str = "auto"
    """A device string of torch, or ``auto``: the GPU with the most free memory, else the CPU."""
    batch_size: int = 8
    """Samples run at once."""
    progress: bool = False
    """Show progress bars on stderr."""

    def start(self) -> Runtime:
        """The same on a device that is there; torch takes the threads that the job was given."""
        limit_threads()
        return replace(self, device=pick_device(self.device))


AUTO = Runtime()
"""Taken by jobs where nobody says otherwise."""
ON_CPU = Runtime("cpu")
"""Taken by what runs within a job, and looks for no device, where nobody says otherwise."""
