"""Depth pruning as an object: score layers, select layers to remove, save the rest.

A subclass overrides the scoring or the selection, and the workflow runs the subclass as a method.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from llm_pruner.exports.mergekit import base_dtype, write_mergekit_yaml
from llm_pruner.mechanisms.depth.options import DepthOptions
from llm_pruner.methods import METHODS
from llm_pruner.methods.base import CalibratedOptions, LayerScoreMethod, lowest_layers
from llm_pruner.models.architecture import planned_architecture, read_architecture, refuse_quantized
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.models.shapes import check_base
from llm_pruner.objects.examples import get_examples_from_text
from llm_pruner.objects.generation import format_prompt
from llm_pruner.objects.layer_importance import LayerImportanceAnalyzer
from llm_pruner.objects.layer_scores import LayerScores
from llm_pruner.planning.plan import Plan
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.surgery.cut import cut
from llm_pruner.system.device import pick_device
from llm_pruner.system.errors import ConfigError, DataError, PlanError, PrunerError, problems_of
from llm_pruner.system.files import scratch_directory, staged_directory
from llm_pruner.system.ownership import refuse_foreign
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.variant import build_method, import_class, load_class

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_pruner.objects.layer_scores import Scores

    EvalData = Sequence[str] | Sequence[Mapping[str, Any]] | torch.Tensor

USUAL_SHARE = 0.2
"""Default share of the layers to remove."""
USUAL_ENDS = DepthOptions(protect_first=1, protect_last=1)
"""Layers that stay by default."""
_USUAL_LENGTH = 128
_PLAN, _MERGEKIT = "plan.json", "mergekit.yaml"


class BasePruner:
    """Removes whole layers of a model, selected by a registered method or by a subclass.

    A subclass overrides ``compute_layer_scores``, ``select_layers`` or both.

    Args:
        model: a model folder, read one layer at a time; or a loaded model of a supported family; or None, to select
            layers from given scores.
        tokenizer: encodes texts; by default the folder's.
        device: device of the current layer and of hidden states.
        batch_size: samples to run at once.
        seq_len: tokens in each sample cut from texts; by default 128, or fewer for a shorter context or for texts that
            would not make two samples.
        options: options of the method, such as ``samples``.

    Raises:
        CheckpointError: if the folder is not a model folder, or the model's family is not supported.
        ConfigError: for unknown or invalid options.
    """

    method: ClassVar[str] = "ShortGPT"
    """The registered method that scores and selects unless a subclass overrides it."""
    Options: ClassVar[type[CalibratedOptions] | None] = None
    """Options of a subclass; by default the options of ``method``."""

    def __init__(
        self,
        model: str | os.PathLike[str] | PreTrainedModel | None,
        tokenizer: Any = None,
        device: str = "auto",
        batch_size: int = 8,
        *,
        seq_len: int | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device = pick_device(device)
        self.batch_size = batch_size
        self.seq_len = seq_len
        model_of = self.options_class()
        try:
            self.options = model_of(**options)
        except ValidationError as error:
            raise ConfigError(problems_of(error, model_of, options), type(self).__name__) from None
        if model is not None:
            self._analyzer()  # checks the model
        self._stream: LayerStream | None = None

    @classmethod
    def options_class(cls) -> type[CalibratedOptions]:
        """The class of the pruner's options.

        Raises:
            PrunerError: if a subclass's ``Options`` is not a subclass of ``CalibratedOptions``.
        """
        options = cls.Options or load_class(METHODS[cls.method]).Options
        if not issubclass(options, CalibratedOptions):
            raise PrunerError(f"{cls.__name__}.Options must be a subclass of CalibratedOptions")
        return options

    @classmethod
    def about(cls) -> tuple[str, str, str]:
        """Name, title and paper. A subclass has its class name and the first line of its docstring."""
        if cls.__module__ == __name__:
            registered = load_class(METHODS[cls.method])
            return registered.name, registered.title, registered.paper
        title = (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")
        return cls.__name__, title, getattr(cls, "paper", "")

    def description(self) -> str:
        """Name, title and paper in one line."""
        name, title, paper = self.about()
        return f"{name}: {title} ({paper})" if paper else f"{name}: {title}"

    @property
    def num_layers(self) -> int:
        """Number of the model's decoder layers.

        Raises:
            PrunerError: if the pruner was made without a model.
        """
        return int(self._config()["num_hidden_layers"])

    @property
    def layers(self) -> Sequence[torch.nn.Module]:
        """Decoder layers of a loaded model, as modules.

        Raises:
            PrunerError: if the pruner was made from a folder; ``stream`` gives its layers one at a time.
        """
        source: Any = self._source()
        if isinstance(source, str | os.PathLike):
            raise PrunerError("layers of a model folder are not in memory; take layers from stream(eval_data)")
        return source.model.layers

    def compute_layer_scores(self, eval_data: EvalData) -> Mapping[int, float]:
        """Score every layer. A subclass may also return a dict, or entries of ``LayerScores``.

        Args:
            eval_data: texts to join and cut into samples; items of ``load_eval_dataset``, read as text with their
                answers; or samples, int64 [samples, length].

        Returns:
            ``LayerScores`` by layer index, from 0; higher is more important.

        Raises:
            DataError: for too little text, or for ids of the wrong dtype or shape or outside the vocabulary.
        """
        return LayerScores(self._registered().layer_entries(self.stream(eval_data)))

    def select_layers(
        self,
        scores: Scores,
        ratio: float | None = None,
        threshold: float | None = None,
        count: int | None = None,
    ) -> list[int]:
        """Select layers to remove, in ascending order; by default a fifth, without the first and the last layer.

        If scores have no further evidence, such as a dict, the layers with the lowest scores are selected, from equal
        scores the last. Otherwise the method selects.

        Args:
            scores: scores of ``compute_layer_scores``, or of the removable layers only.
            ratio: share of the scored layers, rounded down, but at least one. First and last layers may be selected.
            threshold: select all layers with a lower score; may be none.
            count: number of layers.

        Raises:
            PlanError: if more than one of the three is given, if no layer of the model would stay, or if fewer layers
                are ranked than requested.
        """
        if [ratio, threshold, count].count(None) < 2:
            raise PlanError("give at most one of ratio, threshold and count")
        entries = LayerScores.of(scores).entries
        # without a model, layers without a score stay
        most = len(entries) if self.model is None else min(len(entries), self.num_layers - 1)
        if threshold is not None:
            below = sorted(entry["index"] for entry in entries if entry["score"] < threshold)
            if len(below) > most:
                raise PlanError(
                    f"all {len(below)} layers score below {threshold:g}, but one must stay; lower the threshold"
                )
            return below
        if ratio is not None:
            if not 0 < ratio < 1:
                raise PlanError(f"ratio must be between 0 and 1, not {ratio:g}")
            count = share_of_layers(ratio, len(entries))
        select = (
            lowest_layers if all(entry.keys() <= {"index", "score"} for entry in entries) else self._registered().select
        )
        if count is None:
            entries, count = self._usual(entries)
            return sorted(select(entries, count))
        if not 1 <= count <= most:
            raise PlanError(f"count must be 1 … {most} of {len(entries)} scored layers, not {count}")
        return sorted(select(entries, count))

    def prune_and_save(
        self, layers: Sequence[int], output_dir: str | os.PathLike[str], model_id: str | None = None
    ) -> tuple[PreTrainedModel, Plan]:
        """Write the model without these layers as a Hugging Face folder, with ``plan.json`` and ``mergekit.yaml``.

        A loaded model is first saved whole to a temporary folder beside the output.

        Args:
            layers: indices of the layers to remove.
            output_dir: the folder to write. An earlier result of this call is replaced.
            model_id: name or path of the base model for mergekit; by default the model's origin.

        Returns:
            The pruned model, loaded from the folder, and its plan.

        Raises:
            PlanError: for no layer, all layers or an unknown layer, or for a model stored in 4 bits.
            PrunerError: if the folder has other contents, if it is, contains or lies in the model's own, or if the
                model's origin is unknown.
        """
        self._check_layers(layers)
        output, place = Path(output_dir), self._place(model_id)
        if output.is_dir() and any(output.iterdir()) and not (output / _PLAN).exists():
            raise PrunerError(f"{output}: the folder exists and is not a pruned model; choose another folder")
        refuse_foreign(output, folder=True)
        with self._as_folder(output) as base, staged_directory(output, inputs=[base]) as folder:
            refuse_quantized(base)
            check_base(base)
            architecture = read_architecture(base)
            plan = Plan.keep_layers(architecture, set(range(self.num_layers)).difference(layers))
            cut(base, plan, folder)
            plan.write(folder / _PLAN)
            write_mergekit_yaml(plan, folder / _MERGEKIT, place, base_dtype(self._config()), architecture=architecture)
        device = (
            self.device if self.model is None or isinstance(self.model, str | os.PathLike) else str(self.model.device)
        )
        return load(output, device=device), plan

    def export_mergekit_yaml(
        self, layers: Sequence[int], path: str | os.PathLike[str], model_id: str | None = None
    ) -> None:
        """Write a mergekit config that removes the same layers, in the model's own dtype.

        Args:
            layers: indices of the layers to remove.
            path: the YAML to write.
            model_id: name or path of the base model for mergekit; by default the model's origin.

        Raises:
            PlanError: for no layer, all layers or an unknown layer.
            PrunerError: if the model's origin is unknown.
        """
        write_mergekit_yaml(self._plan(layers), path, self._place(model_id), base_dtype(self._config()))

    def ids(self, eval_data: EvalData) -> torch.Tensor:
        """Samples from ``eval_data``, int64 [samples, length]; see ``compute_layer_scores``."""
        import torch

        if isinstance(eval_data, torch.Tensor):
            return self._analyzer()._ids(eval_data)[: self.options.samples]
        items = [eval_data] if isinstance(eval_data, str) else eval_data
        texts = [item if isinstance(item, str) else f"{format_prompt(item)} {item['answer']}" for item in items]
        tokenizer = self._tokenizer()
        length = self.seq_len or self._usual_length(texts, tokenizer)
        return self._analyzer()._ids(get_examples_from_text(texts, tokenizer, length))[: self.options.samples]

    def stream(self, eval_data: EvalData) -> LayerStream:
        """The model's layers one at a time, with hidden states of ``eval_data``, as evidence for scores."""
        if self._stream is not None and eval_data is self._stream.input_ids:
            return self._stream
        return LayerStream(self._source(), self.ids(eval_data), Runtime(self.device, self.batch_size))

    def _registered(self) -> LayerScoreMethod:
        """The registered method, with the pruner's options that the method has."""
        implementation = METHODS[self.method]
        known = load_class(implementation).Options.model_fields
        own = {key: value for key, value in self.options.model_dump().items() if key in known}
        if self.model is not None and own.get("steps", 0) is None:
            own["steps"] = ranked_layers(self.num_layers)
        method = build_method(implementation, own)
        assert isinstance(method, LayerScoreMethod)
        return method

    def _usual(self, entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """Entries of the layers that are removable by default, and the default number to remove."""
        num_layers = max(entry["index"] for entry in entries) + 1 if self.model is None else self.num_layers
        between = USUAL_ENDS.removable(num_layers)
        removable = [entry for entry in entries if entry["index"] in between]
        count = share_of_layers(USUAL_SHARE, len(entries))
        if count > len(removable):
            raise PlanError(f"only {len(removable)} of {num_layers} layers are neither first nor last; give count")
        return removable, count

    def _source(self) -> str | os.PathLike[str] | PreTrainedModel:
        if self.model is None:
            raise PrunerError(
                "the pruner has no model and can only select layers from scores; make a pruner with a model"
            )
        return self.model

    def _tokenizer(self) -> Any:
        if self.tokenizer is not None:
            return self.tokenizer
        if not isinstance(self.model, str | os.PathLike):
            raise DataError("texts need a tokenizer; pass a tokenizer to the pruner, or give token ids")
        return load_tokenizer(Path(self.model))

    def _usual_length(self, texts: Sequence[str], tokenizer: Any) -> int:
        tokens = len(get_examples_from_text(texts, tokenizer, seq_len=1))
        return min(_USUAL_LENGTH, self._config()["max_position_embeddings"], max(2, tokens // 2))

    def _analyzer(self) -> LayerImportanceAnalyzer:
        return LayerImportanceAnalyzer(self._source(), None, self.device, batch_size=self.batch_size)

    def _config(self) -> dict[str, Any]:
        return self._analyzer()._config

    def _place(self, model_id: str | None) -> str:
        """Name or path of the base for mergekit."""
        source = self._source()
        place = model_id or str(source if isinstance(source, str | os.PathLike) else source.config.name_or_path)
        if not place:
            raise PrunerError("the loaded model has no known origin; give model_id")
        return place

    @contextmanager
    def _as_folder(self, output: Path) -> Iterator[Path]:
        """The model's folder; for a loaded model a temporary folder beside ``output``."""
        source = self._source()
        if isinstance(source, str | os.PathLike):
            yield Path(source)
            return
        with scratch_directory(output) as folder:
            source.save_pretrained(folder)
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(folder)
            yield folder

    def _check_layers(self, layers: Sequence[int]) -> None:
        """Raise PlanError unless the indices are layers of the model and at least one layer stays."""
        check_removable(layers, range(self.num_layers))
        if len(layers) == self.num_layers:
            raise PlanError(f"all {self.num_layers} layers are to be removed, but one must stay")

    def _plan(self, layers: Sequence[int]) -> Plan:
        self._check_layers(layers)
        source = self._source()
        if isinstance(source, str | os.PathLike):
            architecture = read_architecture(source)
        else:
            architecture = planned_architecture(self._config())
        return Plan.keep_layers(architecture, set(range(self.num_layers)).difference(layers))


class AblationPruner(BasePruner):
    """Depth pruning by the method ``Ablation``."""

    method = "Ablation"


class AVSSPruner(BasePruner):
    """Depth pruning by the method ``AVSS``."""

    method = "AVSS"


class PruneMePruner(BasePruner):
    """Depth pruning by the method ``PruneMe``."""

    method = "PruneMe"


class SmartPruner(BasePruner):
    """Depth pruning by the method ``Smart``."""

    method = "Smart"

    def optimize_selection(self, candidates: Sequence[int], eval_data: EvalData, tolerance: float = 0.05) -> list[int]:
        """Select candidates to remove one after another, each within a tolerance of the perplexity before.

        A layer is removed if the perplexity without the layer is at most ``tolerance`` higher than before; otherwise
        the layer stays. Each candidate takes one pass over the remaining layers.

        Args:
            candidates: layers in the order of trials, such as the least important first.
            eval_data: data to measure perplexity on, as for ``compute_layer_scores``.
            tolerance: largest increase of perplexity by one layer, as a share of the perplexity before.

        Returns:
            The layers to remove, in the order of removal; may be empty. One layer of the model always stays.

        Raises:
            PlanError: for no candidates, or an unknown layer.
        """
        stream = self.stream(eval_data)
        check_removable(candidates, stream.layers)
        left = list(stream.layers)
        removed: list[int] = []
        highest = _loss(stream) + math.log1p(tolerance)
        for candidate in candidates:
            fewer = [layer for layer in left if layer != candidate]
            if fewer and (loss := _loss(stream.over(fewer))) <= highest:
                removed.append(candidate)
                left, highest = fewer, loss + math.log1p(tolerance)
        return removed


def share_of_layers(share: float, layers: int) -> int:
    """Number of layers that a share stands for, rounded down, but at least one.

    >>> share_of_layers(0.2, 12), share_of_layers(0.2, 4), share_of_layers(0.29, 100)
    (2, 1, 29)
    """
    return max(1, math.floor(share * layers + 1e-9))  # 0.29 of 100 is 29 despite rounding of floats


def ranked_layers(num_layers: int) -> int:
    """Number of layers that a sequential method ranks: half, but enough for the default amount without the ends.

    >>> ranked_layers(30), ranked_layers(4)
    (15, 3)
    """
    ends = USUAL_ENDS.protect_first + USUAL_ENDS.protect_last
    return min(max(-(-num_layers // 2), share_of_layers(USUAL_SHARE, num_layers) + ends), num_layers - 1)


def pruner_method(implementation: str) -> type[LayerScoreMethod]:
    """Wrap a subclass of ``BasePruner`` as a method for the workflow.

    Scores come from the base model's folder and the run's calibration samples. A subclass that takes layers from
    ``stream`` shares the run's own pass. The selection gets scores and a count but no model, so ``select_layers`` of
    the subclass must not use the model.

    Args:
        implementation: ``my_package.my_module:MyPruner``.

    Raises:
        ConfigError: if the module or class does not exist, or the class is not a subclass of ``BasePruner``.
    """
    pruner = load_pruner(implementation)

    class PrunerMethod(LayerScoreMethod):
        __doc__ = pruner.__doc__
        name, title, paper = pruner.about()
        Options = pruner.options_class()
        parts = load_class(METHODS[pruner.method]).parts

        def layer_scores(self, stream: LayerStream) -> list[float]:
            return [entry["score"] for entry in self.layer_entries(stream)]

        def layer_entries(self, stream: LayerStream) -> list[dict[str, Any]]:
            runtime = stream.runtime
            own = pruner(
                stream.source, device=runtime.device, batch_size=runtime.batch_size, **self.options.model_dump()
            )
            own._stream = stream
            return checked_entries(own.compute_layer_scores(stream.input_ids), len(stream.layers), implementation)

        def select(self, layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
            own = pruner(None, device="cpu", **self.options.model_dump())
            scores = LayerScores(layers)
            if "count" in inspect.signature(own.select_layers).parameters:
                selected = own.select_layers(scores, count=count)
            else:
                # half a layer more, so that rounding down gives the count despite rounding of floats
                selected = own.select_layers(scores, ratio=(count + 0.5) / len(scores))
            check_removable(selected, [entry["index"] for entry in layers])
            if len(selected) != count:
                raise PlanError(f"{implementation} selects {len(selected)} layers, but {count} are requested")
            return selected

    return PrunerMethod


def load_pruner(implementation: str) -> type[BasePruner]:
    """The subclass of ``BasePruner`` named ``module:Class``.

    Raises:
        ConfigError: if the module or class does not exist, or the class is not a subclass of ``BasePruner``.
    """
    pruner = import_class(implementation)
    if not issubclass(pruner, BasePruner):
        raise ConfigError([f"'{pruner.__name__}' is not a subclass of llm_pruner.BasePruner"], implementation)
    return pruner


def check_removable(layers: Sequence[int], among: Sequence[int]) -> None:
    """Raise PlanError unless ``layers`` has distinct indices, at least one, all from ``among``."""
    unknown = sorted(set(layers).difference(among))
    if unknown:
        raise PlanError(f"layers {unknown} are not removable; removable layers are {list(among)}")
    if not layers or len(set(layers)) != len(layers):
        raise PlanError(f"layers to remove must be distinct, and at least one, not {list(layers)}")


def checked_entries(scores: Scores, num_layers: int, place: str) -> list[dict[str, Any]]:
    """Entries of the scores in the order of layers.

    Raises:
        PrunerError: unless each layer has one entry with a number as its score.
    """
    try:
        whole = sorted(LayerScores.of(scores).entries, key=lambda entry: entry["index"])
    except DataError as error:
        raise PrunerError(f"{place}: {error}") from None
    indices = [entry["index"] for entry in whole]
    if indices != list(range(num_layers)):
        raise PrunerError(f"{place}: scores must name each of the layers 0 … {num_layers - 1} once, not {indices}")
    return whole


def _loss(stream: LayerStream) -> float:
    """Mean next-token loss of the stream's samples, in nats: the logarithm of the perplexity."""
    for layer in stream:
        outputs = layer.outputs()
    return fmean(stream.losses(outputs)[0])
