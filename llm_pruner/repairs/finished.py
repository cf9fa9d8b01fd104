"""Finished blocks of a repair: the resume point from which an interrupted repair continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llm_pruner.repairs.records import BlockRepairRecord
from llm_pruner.system.files import growing_directory, staged_file
from llm_pruner.system.options import Options
from llm_pruner.training.resume import identity_of, weight_files

if TYPE_CHECKING:
    import torch

_FORMAT = 1
"""Version of the files; files of another version are ignored."""


class FinishedBlocks:
    """Repaired blocks on disk: one safetensors file for each block, with its weights and its record.

    A block depends on all blocks before it, so its identity includes the identity of the block before. Read and write
    the blocks in the order of repair.

    Args:
        folder: folder of the files; None to keep no files.
        identity: digest of everything that the repair depends on, except the masks.
    """

    def __init__(self, folder: Path | None, identity: str = "") -> None:
        self.folder = folder
        self.identity = identity

    @classmethod
    def of(cls, folder: Path | None, base: Path, samples: torch.Tensor, options: Options) -> Self:
        """Finished blocks of one repair.

        Args:
            folder: folder of the files; None to keep no files.
            base: model folder.
            samples: calibration samples, int64 [samples, length].
            options: options of the repair.
        """
        if folder is None:
            return cls(None)
        from llm_pruner.data.tokens import digest
        from llm_pruner.models.architecture import read_config

        described = {
            "format": _FORMAT,
            "options": options.model_dump(mode="json"),
            "tokens": [digest(samples), list(samples.shape)],
            "config": read_config(base),
        }
        return cls(folder, identity_of(described, *weight_files(base)))

    def take(
        self, layer: int, block: str, removed: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], BlockRepairRecord] | None:
        """Weights by parameter name and record of the next block; None if the block is not finished.

        Args:
            layer: index of the decoder layer.
            block: ``attention`` or ``mlp``.
            removed: masks of the removed weights, by linear layer of the block.
        """
        if self.folder is None:
            return None
        digest = hashlib.sha256(f"{self.identity} {layer} {block}".encode())
        for name, mask in removed.items():
            digest.update(f"{name} {tuple(mask.shape)}".encode() + mask.cpu().numpy().tobytes())
        self.identity = digest.hexdigest()
        file = self._file(layer, block)
        if not file.exists():
            return None
        from safetensors import safe_open

        with safe_open(file, framework="pt") as held:
            facts = held.metadata()
            if facts["identity"] != self.identity:
                return None
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118  # no mapping
        return tensors, BlockRepairRecord.model_validate(json.loads(facts["record"]))

    def keep(self, tensors: Mapping[str, torch.Tensor], record: BlockRepairRecord) -> None:
        """Write the block of the latest call of ``take``."""
        if self.folder is None:
            return
        from safetensors.torch import save_file

        growing_directory(self.folder)
        facts = {"identity": self.identity, "record": json.dumps(record.to_dict())}
        with staged_file(self._file(record.layer, record.block)) as staged:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, staged, metadata=facts)

    def _file(self, layer: int, block: str) -> Path:
        assert self.folder
        return self.folder / f"{layer:04d}.{block}.safetensors"
