"""Depth pruning as an object: score the layers, choose among them, save what stays.

For use from Python, and to build on: a subclass overrides what it does in another way, and the workflow runs it as a
method like any other.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
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
from llm_pruner.system.errors import ConfigError, DataError, PlanError, PrunerError, explain
from llm_pruner.system.files import staged_directory
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.variant import build_method, import_class, load_class

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_pruner.objects.layer_scores import Scores

    EvalData = Sequence[str] | Sequence[Mapping[str, Any]] | torch.Tensor

USUAL_SHARE = 0.2
"""Of the layers, where nobody says how many go."""
USUAL_ENDS = DepthOptions(protect_first=1, protect_last=1)
"""What then stays in any case."""
_USUAL_LENGTH = 128
_PLAN, _MERGEKIT = "plan.json", "mergekit.yaml"


class BasePruner:
    """Removes whole layers of a model, chosen by a registered method or by what a subclass overrides.

    A subclass of one's own overrides ``compute_layer_scores``, ``select_layers`` or both.

    Args:
        model: a model folder, read one layer at a time; or a loaded model of a supported family; or None, for
            selecting from scores alone.
        tokenizer: encodes texts; the folder's own by default.
        device: where layers and hidden states live while they are scored.
        batch_size: samples run at once.
        seq_len: tokens in each sample cut from texts; 128 by default, or fewer where the model's context is shorter or
            the texts would not make two samples.
        options: of the method, such as ``samples``.

    Raises:
        CheckpointError: if the folder is no model folder, or the model's family is not supported.
        ConfigError: for unknown or wrong options.
    """

    method: ClassVar[str] = "ShortGPT"
    """The registered method that scores and selects where a subclass does not."""
    Options: ClassVar[type[CalibratedOptions] | None] = None
    """Options of a subclass's own; those of ``method`` by default."""

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
        try:
            self.options = self.options_class()(**options)
        except ValidationError as error:
            raise ConfigError(map(explain, error.errors()), type(self).__name__) from None
        if model is not None:
            self._analyzer()  # refuses what is no model
        self._stream: LayerStream | None = None

    @classmethod
    def options_class(cls) -> type[CalibratedOptions]:
        """The options it is made with."""
        options = cls.Options or load_class(METHODS[cls.method]).Options
        if not issubclass(options, CalibratedOptions):
            raise PrunerError(f"{cls.__name__}.Options must be a subclass of CalibratedOptions")
        return options

    @classmethod
    def about(cls) -> tuple[str, str, str]:
        """Name, title and paper: of a subclass's own its name and the first line of its docstring."""
        if cls.__module__ == __name__:
            registered = load_class(METHODS[cls.method])
            return registered.name, registered.title, registered.paper
        title = (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")
        return cls.__name__, title, getattr(cls, "paper", "")

    def description(self) -> str:
        """One line: name, title and paper."""
        name, title, paper = self.about()
        return f"{name}: {title} ({paper})" if paper else f"{name}: {title}"

    @property
    def num_layers(self) -> int:
        """Decoder layers of the model.

        Raises:
            PrunerError: if the pruner was made without a model.
        """
        return int(self._config()["num_hidden_layers"])

    @property
    def layers(self) -> Sequence[torch.nn.Module]:
        """Decoder layers of a loaded model, themselves.

        Raises:
            PrunerError: if the pruner was made of a folder, whose layers come one at a time from ``stream``.
        """
        source: Any = self._source()
        if isinstance(source, str | os.PathLike):
            raise PrunerError("the layers of a model folder are not in memory; take them from stream(eval_data)")
        return source.model.layers

    def compute_layer_scores(self, eval_data: EvalData) -> Mapping[int, float]:
        """Score every layer. A subclass may return a plain dict, or entries as ``LayerScores`` takes them.

        Args:
            eval_data: texts, joined and cut into samples; items as from ``load_eval_dataset``, taken as text with
                their answers; or samples themselves, int64 [samples, length].

        Returns:
            ``LayerScores``: by layer, from 0, higher is more important.

        Raises:
            DataError: for too little text, or ids of another type or shape or outside the vocabulary.
        """
        return LayerScores(self._registered().layer_entries(self.stream(eval_data)))

    def select_layers(
        self,
        scores: Scores,
        ratio: float | None = None,
        threshold: float | None = None,
        count: int | None = None,
    ) -> list[int]:
        """Layers to remove, ascending: a fifth of those scored, none at the model's ends, unless told otherwise.

        Scores that carry nothing else, such as a plain dict, say that the lowest go, of equals the later; others are
        selected from as the method does.

        Args:
            scores: as from ``compute_layer_scores``, or of those layers only that may go.
            ratio: share of the layers scored, rounded down, but at least one; the ends may go too.
            threshold: all layers with a score below it, which may be none.
            count: so many.

        Raises:
            PlanError: if more than one of the three is given; if no layer of the model would stay; or if the scores
                cannot say so many.
        """
        if [ratio, threshold, count].count(None) < 2:
            raise PlanError("give at most one of ratio, threshold and count")
        entries = LayerScores.of(scores).entries
        # without a model, whoever has the scores of some layers knows which others stay
        most = len(entries) if self.model is None else min(len(entries), self.num_layers - 1)
        if threshold is not None:
            below = sorted(entry["index"] for entry in entries if entry["score"] < threshold)
            if len(below) > most:
                raise PlanError(f"all {len(below)} layers score below {threshold:g}, and one must stay")
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
            raise PlanError(f"{count} of {len(entries)} layers cannot go, only 1 … {most} can")
        return sorted(select(entries, count))

    def prune_and_save(
        self, layers: Sequence[int], output_dir: str | os.PathLike[str], model_id: str | None = None
    ) -> tuple[PreTrainedModel, Plan]:
        """Write the model without these layers as a Hugging Face folder, with ``plan.json`` and ``mergekit.yaml``.

        A loaded model is written whole beside the folder first, and removed again.

        Args:
            layers: to remove, by original index.
            output_dir: the folder; what this wrote there before is replaced.
            model_id: the base model as mergekit should find it; where it was loaded from by default.

        Returns:
            The pruned model, loaded from the folder, and the plan it was cut by.

        Raises:
            PlanError: for no layer, all layers, or one that the model has not; for a model stored in 4 bits.
            PrunerError: if the folder holds anything else, or it is not known where the model is.
        """
        self._check_layers(layers)
        output, place = Path(output_dir), self._place(model_id)
        if output.exists() and any(output.iterdir()) and not (output / _PLAN).exists():
            raise PrunerError(f"{output}: there already, and no pruned model; choose another folder")
        with self._as_folder(output) as base, staged_directory(output) as folder:
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
        """Write what makes mergekit leave out the same layers, in the model's own dtype.

        Args:
            layers: to remove, by original index.
            path: the YAML.
            model_id: the base model as mergekit should find it; where it was loaded from by default.

        Raises:
            PlanError: for no layer, all layers, or one that the model has not.
            PrunerError: if it is not known where the model is.
        """
        write_mergekit_yaml(self._plan(layers), path, self._place(model_id), base_dtype(self._config()))

    def ids(self, eval_data: EvalData) -> torch.Tensor:
        """``eval_data`` as samples, int64 [samples, length]; see ``compute_layer_scores``."""
        import torch

        if isinstance(eval_data, torch.Tensor):
            return self._analyzer()._ids(eval_data)[: self.options.samples]
        items = [eval_data] if isinstance(eval_data, str) else eval_data
        texts = [item if isinstance(item, str) else f"{format_prompt(item)} {item['answer']}" for item in items]
        tokenizer = self._tokenizer()
        length = self.seq_len or self._usual_length(texts, tokenizer)
        return self._analyzer()._ids(get_examples_from_text(texts, tokenizer, length))[: self.options.samples]

    def stream(self, eval_data: EvalData) -> LayerStream:
        """The model one layer at a time, with ``eval_data`` running through it: what scores are made from."""
        if self._stream is not None and eval_data is self._stream.input_ids:
            return self._stream
        return LayerStream(self._source(), self.ids(eval_data), Runtime(self.device, self.batch_size))

    def _registered(self) -> LayerScoreMethod:
        """The registered method, with those of the options that it knows."""
        implementation = METHODS[self.method]
        known = load_class(implementation).Options.model_fields
        own = {key: value for key, value in self.options.model_dump().items() if key in known}
        if self.model is not None and own.get("steps", 0) is None:
            own["steps"] = ranked_layers(self.num_layers)
        method = build_method(implementation, own)
        assert isinstance(method, LayerScoreMethod)
        return method

    def _usual(self, entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """Entries of the layers that may go where nobody says how many, and how many go."""
        num_layers = max(entry["index"] for entry in entries) + 1 if self.model is None else self.num_layers
        between = USUAL_ENDS.removable(num_layers)
        removable = [entry for entry in entries if entry["index"] in between]
        count = share_of_layers(USUAL_SHARE, len(entries))
        if count > len(removable):
            raise PlanError(f"{len(removable)} of {num_layers} layers are not at the model's ends; give count")
        return removable, count

    def _source(self) -> str | os.PathLike[str] | PreTrainedModel:
        if self.model is None:
            raise PrunerError("this pruner was made without a model and can only select from scores")
        return self.model

    def _tokenizer(self) -> Any:
        if self.tokenizer is not None:
            return self.tokenizer
        if not isinstance(self.model, str | os.PathLike):
            raise DataError("texts need a tokenizer: make the pruner with one, or give token ids")
        return load_tokenizer(Path(self.model))

    def _usual_length(self, texts: Sequence[str], tokenizer: Any) -> int:
        tokens = len(get_examples_from_text(texts, tokenizer, seq_len=1))
        return min(_USUAL_LENGTH, self._config()["max_position_embeddings"], max(2, tokens // 2))

    def _analyzer(self) -> LayerImportanceAnalyzer:
        return LayerImportanceAnalyzer(self._source(), None, self.device, batch_size=self.batch_size)

    def _config(self) -> dict[str, Any]:
        return self._analyzer()._config

    def _place(self, model_id: str | None) -> str:
        """The base as mergekit should find it."""
        source = self._source()
        place = model_id or str(source if isinstance(source, str | os.PathLike) else source.config.name_or_path)
        if not place:
            raise PrunerError("the loaded model comes from no folder; give model_id")
        return place

    @contextmanager
    def _as_folder(self, output: Path) -> Iterator[Path]:
        """The model's folder; that of a loaded one beside ``output`` for as long as the block takes."""
        source = self._source()
        if isinstance(source, str | os.PathLike):
            yield Path(source)
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output.name}.base-", dir=output.parent) as folder:
            source.save_pretrained(folder)
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(folder)
            yield Path(folder)

    def _check_layers(self, layers: Sequence[int]) -> None:
        """Raise PlanError unless these are layers of the model, and others stay."""
        check_removable(layers, range(self.num_layers))
        if len(layers) == self.num_layers:
            raise PlanError(f"all {self.num_layers} layers cannot go, one must stay")

    def _plan(self, layers: Sequence[int]) -> Plan:
        self._check_layers(layers)
        source = self._source()
        if isinstance(source, str | os.PathLike):
            architecture = read_architecture(source)
        else:
            architecture = planned_architecture(self._config())
        return Plan.keep_layers(architecture, set(range(self.num_layers)).difference(layers))


class AblationPruner(BasePruner):
    method = "Ablation"


class AVSSPruner(BasePruner):
    method = "AVSS"


class PruneMePruner(BasePruner):
    method = "PruneMe"


class SmartPruner(BasePruner):
    method = "Smart"

    def optimize_selection(self, candidates: Sequence[int], eval_data: EvalData, tolerance: float = 0.05) -> list[int]:
        """Of the candidates, those that can go together, one after the other, at little cost each.

        A layer goes if perplexity without it is at most ``tolerance`` above that of the model so far; otherwise it is
        restored, and the next is tried. One pass over the model that is left for each.

        Args:
            candidates: layers in the order to try, such as the least important first.
            eval_data: as for ``compute_layer_scores``; perplexity is measured on it.
            tolerance: of each step, as a share of the perplexity before it.

        Returns:
            The layers to remove, in the order they went; may be none, and never all of the model.

        Raises:
            PlanError: for no candidates, or one that the model has not.
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
    """So many of the layers, rounded down, but at least one.

    >>> share_of_layers(0.2, 12), share_of_layers(0.2, 4), share_of_layers(0.29, 100)
    (2, 1, 29)
    """
    return max(1, math.floor(share * layers + 1e-9))  # 0.29 of 100 are 29, whatever floats say


def ranked_layers(num_layers: int) -> int:
    """Layers to rank where they go one after the other: half, or enough that the usual amount is never only ends.

    >>> ranked_layers(30), ranked_layers(4)
    (15, 3)
    """
    ends = USUAL_ENDS.protect_first + USUAL_ENDS.protect_last
    return min(max(-(-num_layers // 2), share_of_layers(USUAL_SHARE, num_layers) + ends), num_layers - 1)


def pruner_method(implementation: str) -> type[LayerScoreMethod]:
    """A subclass of ``BasePruner`` as a method that the workflow runs like any other.

    Scores are made from the base model's folder and the run's calibration samples, in the run's own pass where the
    subclass takes its layers from ``stream``; layers are selected from the scores alone, by count, so a subclass that
    selects itself must do without the model there.

    Args:
        implementation: ``my_package.my_module:MyPruner``.

    Raises:
        ConfigError: if there is no such module or class, or the class is something else.
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
                # half a layer above, so that rounding down gives the count whatever floats say
                selected = own.select_layers(scores, ratio=(count + 0.5) / len(scores))
            check_removable(selected, [entry["index"] for entry in layers])
            if len(selected) != count:
                raise PlanError(f"{implementation} selects {len(selected)} layers where {count} are asked for")
            return selected

    return PrunerMethod


def load_pruner(implementation: str) -> type[BasePruner]:
    """A subclass of ``BasePruner`` by ``module:Class``.

    Raises:
        ConfigError: if there is no such module or class, or the class is something else.
    """
    pruner = import_class(implementation)
    if not issubclass(pruner, BasePruner):
        raise ConfigError([f"'{pruner.__name__}' is no subclass of llm_pruner.BasePruner"], implementation)
    return pruner


def check_removable(layers: Sequence[int], among: Sequence[int]) -> None:
    """Raise PlanError unless these are distinct layers, at least one, of those that may go."""
    unknown = sorted(set(layers).difference(among))
    if unknown:
        raise PlanError(f"layers {unknown} are not among those that may go: {list(among)}")
    if not layers or len(set(layers)) != len(layers):
        raise PlanError(f"layers to remove must be distinct and at least one, not {list(layers)}")


def checked_entries(scores: Scores, num_layers: int, place: str) -> list[dict[str, Any]]:
    """The scores' entries in the order of layers.

    Raises:
        PrunerError: unless there is one for each layer, with a number as its score.
    """
    try:
        whole = sorted(LayerScores.of(scores).entries, key=lambda entry: entry["index"])
    except DataError as error:
        raise PrunerError(f"{place}: {error}") from None
    indices = [entry["index"] for entry in whole]
    if indices != list(range(num_layers)):
        raise PrunerError(f"{place}: scores must be of layers 0 … {num_layers - 1}, once each, not {indices}")
    return whole


def _loss(stream: LayerStream) -> float:
    """Mean next-token loss of the stream's samples, in nats; its exponential is the perplexity."""
    for layer in stream:
        outputs = layer.outputs()
    return fmean(stream.losses(outputs)[0])
