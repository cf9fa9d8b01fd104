"""Importance of layers, and pruning rates from importance, as two objects for use from Python.

The results are the same as in a run: importance of the methods ``Ablation`` and ``Activation``, and rates that are the
targets of width pruning.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from llm_pruner.mechanisms.width.options import WidthOptions
from llm_pruner.methods.ablation import Ablation
from llm_pruner.methods.activation import Activation
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.models.architecture import check_family, read_config, refuse_sliced
from llm_pruner.objects.examples import get_examples_from_text
from llm_pruner.planning.budget import LEAST_WEIGHT, share_out
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.system.errors import DataError, PlanError, nearest, problems_of
from llm_pruner.system.files import read_json, staged_file, write_json
from llm_pruner.system.ownership import MADE_BY
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

STRATEGIES = ("uniform", "inverse", "proportional")
"""Allocations that turn layer importance into rates. ``global`` ranks groups and has no rates."""


class LayerImportanceAnalyzer:
    """Measures the importance of each decoder layer. The model stays unchanged.

    Args:
        model: a loaded model of a supported family, or a model folder. A folder is read one layer at a time.
        tokenizer: encodes texts; unused for token ids.
        device: device of the current layer and of hidden states.
        seq_len: tokens in each sample cut from texts.
        batch_size: samples to run at once.

    Raises:
        CheckpointError: if the folder is not a model folder, or the model's family is not supported.
        PlanError: if the model's hidden dimensions are sliced.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PreTrainedModel,
        tokenizer: Any,
        device: str = "cpu",
        seq_len: int = 128,
        batch_size: int = 8,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.seq_len = seq_len
        self.batch_size = batch_size
        if isinstance(model, str | os.PathLike):
            self._config = read_config(model)
        else:
            self._config = model.config.to_dict()
            check_family(self._config, "the loaded model")
        refuse_sliced(self._config, model if isinstance(model, str | os.PathLike) else "the loaded model")

    def measure_layer_importance_by_removal(
        self, texts: Sequence[str] | torch.Tensor, num_layers: int | None = None
    ) -> dict[int, float]:
        """Increase of the mean next-token loss if a layer is bypassed, in nats; negative if the loss falls.

        Args:
            texts: texts to join and cut into samples, see ``get_examples_from_text``; or samples, int64
                [samples, length].
            num_layers: return the first n layers only; all by default.

        Returns:
            Increase by layer index, from 0.

        Raises:
            DataError: for too little text, or for ids of the wrong dtype or shape or outside the vocabulary.
            PlanError: if ``num_layers`` is below 1 or above the model's number of layers.
        """
        layers = self._config["num_hidden_layers"]
        if num_layers is not None and num_layers not in range(1, layers + 1):
            raise PlanError(f"num_layers must be 1 … {layers}, the number of the model's layers, not {num_layers}")
        importance = self._measure(Ablation(), texts)
        return {index: importance[index] for index in range(num_layers or layers)}

    def measure_layer_importance_by_activation(self, texts: Sequence[str] | torch.Tensor) -> dict[int, float]:
        """Mean L2 norm of each layer's output, over all tokens.

        Args:
            texts: as for ``measure_layer_importance_by_removal``.

        Returns:
            Mean norm by layer index, from 0.

        Raises:
            DataError: for too little text, or for ids of the wrong dtype or shape or outside the vocabulary.
        """
        return self._measure(Activation(), texts)

    def _measure(self, method: LayerScoreMethod, texts: Sequence[str] | torch.Tensor) -> dict[int, float]:
        stream = LayerStream(self.model, self._ids(texts), Runtime(self.device, self.batch_size))
        return dict(enumerate(method.layer_scores(stream)))

    def _ids(self, texts: Sequence[str] | torch.Tensor) -> torch.Tensor:
        import torch

        if isinstance(texts, torch.Tensor):
            ids, shape = texts, tuple(texts.shape)
            if ids.dtype != torch.int64 or ids.ndim != 2 or shape[0] < 1 or shape[1] < 2:
                raise DataError(
                    f"ids must be int64 [samples, length], at least one sample of two tokens, not {ids.dtype} {shape}"
                )
        else:
            ids = get_examples_from_text(texts, self.tokenizer, self.seq_len)
        low, high, size = int(ids.min()), int(ids.max()), self._config["vocab_size"]
        if low < 0 or high >= size:
            raise DataError(
                f"token ids {low} … {high} do not fit a vocabulary of {size}; use the model's own tokenizer"
            )
        return ids


class UnbalancedStructuredPruningCalculator:
    """Computes pruning rates of layers from importance. The mean of the rates is the requested rate.

    Args:
        layer_importance: importance of every layer 0 … num_layers − 1, on any scale; may be negative.
        num_layers: number of the model's layers.

    Raises:
        PlanError: if a layer has no finite importance, or an index is not a layer.
    """

    def __init__(self, layer_importance: Mapping[int, float], num_layers: int) -> None:
        self.num_layers = num_layers
        self.layer_importance = self._of_every_layer(layer_importance, "importance")

    def compute_layer_pruning_rates(
        self,
        target_overall_rate: float,
        strategy: str = "inverse",
        alpha: float = 1.0,
        min_rate: float = 0.0,
        max_rate: float = 0.8,
        use_log_transform: bool = True,
    ) -> dict[int, float]:
        """Pruning rate of each layer: the share of its units to remove.

        Args:
            target_overall_rate: mean of the rates: the share of all units if layers have one size.
            strategy: ``inverse`` (important layers lose less), ``proportional`` (important layers lose more) or
                ``uniform``.
            alpha: power of the normalised importance; a larger power separates the most important layers more.
            min_rate: smallest rate of a layer.
            max_rate: largest rate of a layer.
            use_log_transform: use the logarithm of importance, so that one outlier does not flatten the rest.

        Returns:
            Rates by layer index, within the bounds. Their mean is the target, up to rounding of floats.

        Raises:
            PlanError: for an unknown strategy, invalid options, or a target outside the bounds.
        """
        if strategy not in STRATEGIES:
            raise PlanError(f"unknown strategy '{strategy}'{nearest(strategy, STRATEGIES)}")
        try:
            # a uniform rate does not depend on importance
            weighed = {} if strategy == "uniform" else {"alpha": alpha, "log": use_log_transform}
            given: dict[str, Any] = {"allocation": {strategy: weighed}, "min_rate": min_rate, "max_rate": max_rate}
            options = WidthOptions(**given)
        except ValidationError as error:
            raise PlanError("; ".join(problems_of(error, WidthOptions, given))) from None
        if not min_rate <= target_overall_rate <= max_rate:
            raise PlanError(
                f"target_overall_rate {target_overall_rate:g} is not between min_rate {min_rate:g} and max_rate "
                f"{max_rate:g}, the bounds of every layer's rate; change the target or the bounds"
            )
        layers = self.num_layers
        weights = options.sharing.targets(target_overall_rate, layers, list(self.layer_importance.values()))
        rates = share_out(
            target_overall_rate * layers,
            [max(weight, LEAST_WEIGHT) for weight in weights],
            [min_rate] * layers,
            [max_rate] * layers,
            [1.0] * layers,
        )
        return dict(enumerate(rates))

    def verify_average_pruning_rate(self, rates: Mapping[int, float]) -> dict[str, float]:
        """Mean, standard deviation (of the population), minimum, maximum and range of the rates.

        Args:
            rates: rate of every layer.

        Raises:
            PlanError: if a layer has no finite rate, or an index is not a layer.
        """
        values = list(self._of_every_layer(rates, "rate").values())
        return {
            "average_pruning_rate": statistics.fmean(values),
            "std_pruning_rate": statistics.pstdev(values),
            "min_pruning_rate": min(values),
            "max_pruning_rate": max(values),
            "rate_range": max(values) - min(values),
        }

    def save_pruning_rates(self, rates: Mapping[int, float], filepath: str | os.PathLike[str]) -> None:
        """Write rates as JSON, with importance and statistics of ``verify_average_pruning_rate``.

        Args:
            rates: rate of every layer.
            filepath: the JSON to write.

        Raises:
            PlanError: if a layer has no finite rate, or an index is not a layer.
        """
        content = {
            "layer_pruning_rates": self._of_every_layer(rates, "rate"),
            "layer_importance": self.layer_importance,
            "statistics": self.verify_average_pruning_rate(rates),
        }
        write_json(filepath, content)

    @staticmethod
    def load_pruning_rates(filepath: str | os.PathLike[str]) -> dict[int, float]:
        """Read the rates of a file of ``save_pruning_rates``, by layer index.

        Raises:
            DataError: if the file is missing or is not a file of rates.
        """
        try:
            rates = _RatesFile.model_validate(read_json(filepath)).layer_pruning_rates
        except ValidationError as error:
            problem = error.errors()[0]
            what = ": ".join([*map(str, problem["loc"]), problem["msg"]])
            raise DataError(f"{filepath}: not a file of pruning rates ({what})") from None
        if sorted(rates) != list(range(len(rates))):
            raise DataError(f"{filepath}: the file must have rates of layers 0 … {len(rates) - 1}, not {sorted(rates)}")
        return dict(sorted(rates.items()))

    def visualize_pruning_strategy(self, rates: Mapping[int, float], save_path: str | os.PathLike[str]) -> None:
        """Draw importance and rate of every layer, one above the other, as a PNG.

        Args:
            rates: rate of every layer.
            save_path: the PNG to write.

        Raises:
            PlanError: if a layer has no finite rate, or an index is not a layer.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        rates = self._of_every_layer(rates, "rate")
        average = statistics.fmean(rates.values())
        figure = Figure(figsize=(8, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.bar(list(self.layer_importance), list(self.layer_importance.values()), color="#0072B2")
        above.axhline(0, color="#222222", linewidth=0.8)
        above.set(ylabel="importance", title=f"{self.num_layers} layers, {average:.2%} pruned on average")
        below.bar(list(rates), list(rates.values()), color="#E69F00")
        below.axhline(average, color="#D55E00", linestyle="--", label=f"average {average:.4f}")
        below.set(xlabel="layer", ylabel="pruning rate")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.legend()
        for axes in (above, below):
            axes.grid(axis="y", alpha=0.3)
        with staged_file(save_path) as staged:
            figure.savefig(staged, dpi=150, format="png", metadata={"Software": MADE_BY})

    def _of_every_layer(self, values: Mapping[int, float], what: str) -> dict[int, float]:
        """The values in the order of layers, after a check that each layer has one finite value."""
        missing = [layer for layer in range(self.num_layers) if layer not in values]
        unknown = [layer for layer in values if layer not in range(self.num_layers)]
        if missing or unknown or not values:
            raise PlanError(
                f"a model with {self.num_layers} layers needs the {what} of layers 0 … {self.num_layers - 1}; "
                f"missing: {missing or 'none'}, unknown: {unknown or 'none'}"
            )
        for layer, value in values.items():
            if not math.isfinite(value):
                raise PlanError(f"the {what} of layer {layer} is not finite: {value}")
        return {layer: float(values[layer]) for layer in range(self.num_layers)}


class _RatesFile(BaseModel):
    """Required keys of a file of rates. Other keys are for readers."""

    layer_pruning_rates: dict[NonNegativeInt, Annotated[float, Field(strict=True, ge=0, le=1)]] = Field(min_length=1)
