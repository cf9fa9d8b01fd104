from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen
from pydantic import NonNegativeFloat

from llm_pruner.models.layout import component, layer_prefix, output_linears
from llm_pruner.repairs.cuts import Cut, CutRepair, CutRepairOptions, relative_error
from llm_pruner.repairs.records import CutRepairRecord
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch

    from llm_pruner.models.architecture import Architecture


class ReplaceMeOptions(CutRepairOptions):
    """Options of ReplaceMe; unknown keys are refused."""

    ridge: NonNegativeFloat | Annotated[tuple[NonNegativeFloat, ...], MinLen(1)] = (0.01, 0.1, 1.0)
    """Penalty on the distance to the identity, in units of the mean squared output of the MLP. From several values,
    held-out samples choose one for each cut. 0 is the published solution, and needs many tokens."""


class ReplaceMe(CutRepair["torch.Tensor"]):
    """Replaces removed layers by a linear map of the outputs of the last MLP before the cut.

    The map is the least-squares fit from these outputs to the joint contribution of the MLP and the removed layers to
    the residual stream. The map is folded into the MLP's down projection, so the model gets no new tensor.
    """

    title = "The removed layers as a linear map, folded into the MLP before them"
    paper = "Shopkhoev et al., ReplaceMe: Network Simplification via Depth Pruning, 2025 (arXiv:2505.02819)"
    Options = ReplaceMeOptions
    options: ReplaceMeOptions
    folds = True

    def check(self, cuts: Sequence[range]) -> None:
        if any(cut.start == 0 for cut in cuts):
            raise PlanError(
                "replace_me needs a layer in front of layer 0 for its map; write protect_first: 1, or repair: rescale"
            )

    def mend(self, cut: Cut) -> tuple[torch.Tensor | None, CutRepairRecord]:
        import torch

        assert cut.middle is not None and cut.written is not None
        hidden = cut.wanted[0].shape[-1]
        sums = _Sums.empty(hidden, cut.wanted[0].device)
        for decides, (middle, written, wanted) in cut.sides(cut.middle, cut.written, cut.wanted):
            if not decides:
                weights = wanted.double().square().mean(-1).clamp(min=1e-30).reciprocal()
                alike = torch.ones_like(weights)
                sums.add(
                    written, wanted.double() - middle.double(), weights if self.options.weigh == "stream" else alike
                )
        before = self._error(cut, torch.eye(hidden, device=sums.gram.device))
        best, after, chosen = None, before, None
        ridges = self.options.ridge
        for ridge in ridges if isinstance(ridges, tuple) else (ridges,):
            mapping = sums.solved(ridge, cut.layers)
            if (error := self._error(cut, mapping)) < after:
                best, after, chosen = mapping, error, ridge
        record = CutRepairRecord(
            first=cut.layers.start,
            last=cut.layers.stop - 1,
            before=before,
            after=after,
            kept=best is not None,
            settings={} if chosen is None else {"ridge": chosen},
        )
        return best, record

    def _error(self, cut: Cut, mapping: torch.Tensor) -> float:
        """Error of the stream behind the cut on held-out samples, or on all if none are held out."""
        return relative_error(
            (
                (middle.float() + written.float() @ mapping.T.float(), wanted)
                for decides, (middle, written, wanted) in cut.sides(cut.middle or [], cut.written or [], cut.wanted)
                if decides or not self.options.held_out
            ),
            self.options.weigh,
        )

    def mended_stream(self, cut: Cut, mending: torch.Tensor) -> list[torch.Tensor]:
        assert cut.middle is not None and cut.written is not None
        return [
            middle + (written.float() @ mending.T.float()).to(middle.dtype)
            for middle, written in zip(cut.middle, cut.written, strict=True)
        ]

    def mended_weight(
        self,
        architecture: Architecture,
        name: str,
        tensor: torch.Tensor,
        mendings: Sequence[tuple[range, torch.Tensor]],
    ) -> torch.Tensor:
        index, _ = component(name)
        inner, _, kind = name.removeprefix(layer_prefix(index or 0)).rpartition(".")
        if index is None or kind not in ("weight", "bias") or output_linears([inner]).get("mlp") != inner:
            return tensor
        for layers, mapping in mendings:
            if layers.start - 1 == index:
                return (mapping.cpu() @ tensor.double()).to(tensor.dtype)
        return tensor


@dataclass
class _Sums:
    """Sums over tokens of the MLP's outputs y and target outputs t, in float64, because a solution without a ridge
    magnifies rounding."""

    tokens: int
    mass: float
    """Sum of the tokens' weights."""
    gram: torch.Tensor
    """Sum of y·yᵀ, [hidden, hidden]."""
    cross: torch.Tensor
    """Sum of t·yᵀ, [hidden, hidden]."""

    @classmethod
    def empty(cls, hidden: int, device: torch.device) -> _Sums:
        import torch

        gram = torch.zeros(hidden, hidden, dtype=torch.float64, device=device)
        return cls(0, 0.0, gram, torch.zeros_like(gram))

    def add(self, written: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> None:
        """Add hidden states [batch, length, hidden] with weights [batch, length]."""
        rows = written.flatten(0, 1).double()
        weighted = rows * weights.flatten()[:, None]
        self.tokens += len(rows)
        self.mass += weights.sum().item()
        self.gram.addmm_(weighted.T, rows)
        self.cross.addmm_(targets.flatten(0, 1).T, weighted)

    def solved(self, ridge: float, layers: range) -> torch.Tensor:
        """The map from y to t, with the ridge as a penalty on the distance to the identity: float64 [hidden, hidden].

        Raises:
            PlanError: if the tokens do not determine the map.
        """
        import torch

        gram, cross = self.gram / self.mass, self.cross / self.mass
        damping = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        factor, failed = torch.linalg.cholesky_ex(gram + damping)
        if failed:
            raise PlanError(
                f"layers {layers.start} to {layers.stop - 1}: the {len(gram)} outputs of the MLP before them depend on "
                f"each other over {self.tokens} tokens; give more calibration samples, or a ridge above {ridge:g}"
            )
        return torch.cholesky_solve((cross + damping).T, factor).T
