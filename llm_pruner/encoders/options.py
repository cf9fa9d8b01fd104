"""Options of the classifier track. Imports no torch, so a bad configuration fails at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from llm_pruner.models.packages import ENCODERS
from llm_pruner.system.options import Options

BUILTIN = "builtin"
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Bits = Literal[4, 8]


class TaskOptions(Options):
    """What is classified."""

    dataset: str = BUILTIN
    """``builtin``, a GLUE task by name (``sst2``, ``mrpc``, …), or a CSV or JSONL file."""
    text_column: str = "text"
    """Of a file."""
    pair_column: str | None = None
    """Of a file: the second text, where pairs are classified."""
    label_column: str = "label"
    """Of a file."""
    validation: str | None = None
    """A second file of the same columns; a tenth of the first by default."""
    test: str | None = None
    """A third file; another tenth of the first by default."""
    length: PositiveInt = 128
    """Tokens of an example; longer ones are cut."""
    samples: PositiveInt | None = None
    """Examples to train on; all by default."""
    seed: NonNegativeInt = 0
    """Decides what is drawn and what is held out."""


class TrainingOptions(Options):
    """What every training has."""

    epochs: float = Field(default=3.0, gt=0)
    """How often the training examples are gone through."""
    batch_size: PositiveInt = 32
    """Examples in an update."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW, which falls linearly to zero."""
    weight_decay: Weight = 0.01
    """Pulls the weights towards zero."""
    warmup: Share = 0.1
    """Share of the steps over which the learning rate rises from zero."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of an update's gradient."""
    checks: PositiveInt = 8
    """How often validation accuracy is measured; a checkpoint is kept at each."""
    patience: PositiveInt | None = None
    """Stop after so many checks in a row without a better validation accuracy; never by default."""
    seed: NonNegativeInt = 0
    """Decides the order of the examples, dropout, and weights that start at random."""


class BuiltinEncoder(Options):
    """Size of the built-in teacher, a DistilBERT that starts at random."""

    vocab_size: int = Field(default=2048, ge=259)
    """Of its tokenizer, trained on the same text."""
    layers: PositiveInt = 4
    """Encoder layers."""
    hidden_size: PositiveInt = 128
    """Width of the residual stream."""
    heads: PositiveInt = 8
    """Attention heads of a layer."""
    neurons: PositiveInt = 512
    """FFN neurons of a layer."""
    dropout: Share = 0.1
    """In attention, FFN and embeddings."""

    @model_validator(mode="after")
    def _heads_divide(self) -> BuiltinEncoder:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        return self


class TeacherOptions(TrainingOptions):
    """The teacher: which classifier all others learn from, and how it is trained."""

    epochs: float = Field(default=3.0, ge=0)
    """How often the training examples are gone through; 0 takes a model that knows the task as it is."""
    source: str = BUILTIN
    """``builtin``, ``minilm`` (a pretrained BERT of six layers, fetched as a Python package), the id of a DistilBERT,
    BERT or RoBERTa on the hub, or a local folder; fine-tuned on the task."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    builtin: BuiltinEncoder = BuiltinEncoder()
    """Size of the built-in one."""

    @property
    def package(self) -> str | None:
        """The name of the package that the source comes in."""
        return self.source if self.source in ENCODERS else None

    @property
    def on_hub(self) -> bool:
        """Whether the source is downloaded from the hub."""
        return self.source != BUILTIN and not self.package and not Path(self.source).is_dir()

    @model_validator(mode="after")
    def _knows_something(self) -> TeacherOptions:
        if not self.epochs and self.source == BUILTIN:
            raise ValueError("epochs 0: the built-in teacher starts at random; name a source, or train it")
        return self


class DistillationOptions(TrainingOptions):
    """A training that follows a teacher: the loss is the sum of four terms."""

    beta_ce: Weight = 0.5
    """Weight of the cross-entropy with the labels."""
    beta_logits: Weight = 0.5
    """Weight of KL(teacher‖student)·τ²."""
    beta_hidden: Weight = 0.0
    """Weight of the mean squared error of hidden states, projected where widths differ."""
    beta_attention: Weight = 0.0
    """Weight of the mean squared error of attention maps, each layer's averaged over its heads."""
    temperature: float = Field(default=2.0, gt=0)
    """τ: both models' logits are divided by it before they are compared."""

    @model_validator(mode="after")
    def _some_loss(self) -> DistillationOptions:
        if not self.beta_ce + self.beta_logits + self.beta_hidden + self.beta_attention:
            raise ValueError("beta_ce, beta_logits, beta_hidden and beta_attention are all zero: nothing to minimise")
        return self


class PruningOptions(DistillationOptions):
    """KGSP and MSP: structured pruning while fine-tuning with distillation."""

    importance_mode: Literal["l2", "kd_grad", "l2+kd_grad"] = "l2+kd_grad"
    """Groups by the size of their weights, by gradient times weight of the distillation loss, or by both."""
    lambda_mag: Weight = 0.5
    """Weight of the sizes, where both count."""
    lambda_grad: Weight = 0.5
    """Weight of the gradients, where both count."""
    pruning_window_steps: PositiveInt = 20
    """Backward passes whose gradients count, the latest ones."""
    enable_multi_granularity: bool = True
    """Rank heads and FFN neurons apart, each with a final sparsity of its own; otherwise all groups together."""
    final_sparsity: Share = 0.5
    """Share of all groups' parameters that goes, where heads and neurons are ranked together."""
    head_final_sparsity: Share = 0.5
    """Share of the heads that goes, where they are ranked apart."""
    ffn_final_sparsity: Share = 0.5
    """Share of the FFN neurons that goes, where they are ranked apart."""
    schedule: Literal["polynomial", "dynamic"] = "polynomial"
    """``polynomial`` rises to the final sparsity whatever happens; ``dynamic`` rises along a cosine and backs off while
    validation accuracy is low, so it may end below."""
    power: float = Field(default=3.0, gt=0)
    """Of the polynomial."""
    start_step: NonNegativeInt = 0
    """Before it nothing is pruned."""
    final_step: PositiveInt | None = None
    """From it on nothing changes any more; half of the steps by default."""
    mask_every: PositiveInt = 10
    """Steps from one choice of groups to the next."""
    tolerance: Share = 0.02
    """How far validation accuracy may fall below where it began before ``dynamic`` backs off."""
    backoff: float = Field(default=0.9, gt=0, lt=1)
    """What ``dynamic`` multiplies the sparsity by at each check that is too low, and divides by at each that is not."""

    @property
    def targets(self) -> tuple[float, float]:
        """Final sparsity of heads and of neurons; the same where they are ranked together."""
        if self.enable_multi_granularity:
            return self.head_final_sparsity, self.ffn_final_sparsity
        return self.final_sparsity, self.final_sparsity


class RowOptions(PruningOptions):
    """A row of the comparison."""

    start: str | None = None
    """The row that is pruned, or only trained, further, seed by seed; the teacher itself by default."""


class QuantizationOptions(Options):
    """How the linear layers of the encoder are stored."""

    bits: Bits = 4
    """4: NF4 in blocks of 64 weights; 8: integers with one scale a row."""
    layer_bits: dict[NonNegativeInt, Bits] = Field(default_factory=dict)
    """Encoder layers that are stored otherwise, by number: ``{0: 8, 3: 8}``."""
    double_quant: bool = False
    """Quantise the NF4 blocks' scales too."""


class QATOptions(DistillationOptions):
    """QKD: training with the quantised weights in the forward pass, following the teacher."""

    epochs: float = Field(default=2.0, gt=0)
    """How often the training examples are gone through."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW, which falls linearly to zero."""
    beta_ce: Weight = 1.0
    """Weight of the cross-entropy with the labels."""
    beta_logits: Weight = 1.0
    """Weight of KL(teacher‖student)·τ²."""
    beta_hidden: Weight = 0.1
    """Weight of the mean squared error of hidden states, projected where widths differ."""
