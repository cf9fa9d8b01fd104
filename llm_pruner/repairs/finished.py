"""The blocks that a repair has been through, on disk until the model is, so that it goes on behind them when killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llm_pruner.repairs.records import BlockRepairRecord
from llm_pruner.system.files import MARKER, refuse_foreign_folder, staged_file
from llm_pruner.system.options import Options
from llm_pruner.training.resume import identity_of, weight_files

if TYPE_CHECKING:
    import torch

_FORMAT = 1
"""Of the files; those of another format are not taken up."""


class FinishedBlocks:
    """One safetensors file a block: the weights that the repair gave it, and its record.

    A block's result depends on all that was removed before it, so each has the identity of the one before within its
    own. Blocks are taken, and kept, in the order in which they are repaired.

    Args:
        folder: where the files are; None to keep nothing.
        identity: of what the first block depends on, whatever was removed.
    """

    def __init__(self, folder: Path | None, identity: str = "") -> None:
        self.folder = folder
        self.identity = identity

    @classmethod
    def of(cls, folder: Path | None, base: Path, samples: torch.Tensor, options: Options) -> Self:
        """Those of a repair of a model folder with calibration samples, int64 [samples, length], and these options."""
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
        """The weights and the record of the next block, if it is finished.

        Args:
            removed: masks of what is gone of its linear layers.
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
        """Write down the block that ``take`` was asked for last."""
        if self.folder is None:
            return
        from safetensors.torch import save_file

        if not (self.folder / MARKER).exists():
            refuse_foreign_folder(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / MARKER).touch()
        facts = {"identity": self.identity, "record": json.dumps(record.to_dict())}
        with staged_file(self._file(record.layer, record.block)) as staged:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, staged, metadata=facts)

    def _file(self, layer: int, block: str) -> Path:
        assert self.folder
        return self.folder / f"{layer:04d}.{block}.safetensors"
