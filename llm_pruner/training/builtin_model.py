"""Trains the built-in base model from scratch: a small Llama, good enough to tell pruning methods apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.builtin.corpus import load_corpus
from llm_pruner.data.builtin.options import BOS, EOS, PAD, BuiltinModel
from llm_pruner.models.layout import decoder_layers
from llm_pruner.system.files import staged_directory
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import ON_CPU, Runtime
from llm_pruner.training.loop import Schedule, TrainingTask, fit
from llm_pruner.training.records import BuiltinTraining, LossHistory, LossPoint, TokenCounts, Validation
from llm_pruner.training.schedule import rate

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_WORDS = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\n+|\s+"
_SHARDS = 2  # parts of a batch, with gradients computed side by side
_CHECKS = 7  # validation points on the curve before the end
_CHECK_WINDOWS = 48


def train_builtin(
    output: Path,
    spec: BuiltinModel,
    *,
    seed: int,
    record: Path | None = None,
    runtime: Runtime = ON_CPU,
) -> BuiltinTraining:
    """Train tokenizer and model on the built-in corpus and write them to ``output`` as a Hugging Face folder.

    ``record`` is the file for the returned record: losses in nats per token, validation perplexity over
    non-overlapping windows of ``sequence_length``, bits per byte.

    On one machine, the same seed gives the same weights to the bit, with any number of threads.

    Raises:
        CheckpointError: if the training diverges. Then nothing is written.
    """
    import torch

    run = Run(options=spec.model_dump(), seed=seed, device=runtime.device)
    corpus = load_corpus()
    texts = {split: [document.text for document in corpus[split]] for split in ("train", "validation")}
    tokenizer = train_tokenizer(texts["train"], spec.vocab_size, spec.max_position_embeddings)
    tokens = {split: _encode(tokenizer, texts[split]).to(runtime.device) for split in texts}
    windows = tokens["validation"].unfold(0, spec.sequence_length, spec.sequence_length)

    with torch.random.fork_rng(devices=[]), _pool() as pool:
        torch.manual_seed(seed)
        model = _new_model(spec, tokenizer).to(runtime.device)  # type: ignore[arg-type]
        task = _Task(model, tokens["train"], windows, spec, seed, pool)
        history = fit(task, _schedule(spec), name="training", runtime=runtime)
        validation_loss = _mean_loss(model, windows, spec.batch_size, pool)

    bytes_per_token = sum(len(text.encode()) for text in texts["validation"]) / tokens["validation"].numel()
    points = [*history.points, {"step": spec.steps, "loss": validation_loss}]
    result = BuiltinTraining(
        parameters=model.num_parameters(),
        tokens=TokenCounts(
            train=len(tokens["train"]),
            validation=len(tokens["validation"]),
            seen=spec.steps * spec.batch_size * spec.sequence_length,
        ),
        validation=Validation(
            loss=validation_loss,
            perplexity=math.exp(validation_loss),
            bits_per_byte=validation_loss / math.log(2) / bytes_per_token,
        ),
        history=LossHistory(train=tuple(history.losses), validation=tuple(LossPoint(**point) for point in points)),
        run=run.describe(),
    )
    with staged_directory(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if record is not None:
        result.write(record)
    return result


def _schedule(spec: BuiltinModel) -> Schedule:
    interval = math.ceil(spec.steps / _CHECKS)
    return Schedule(
        steps=spec.steps,
        factor=lambda step: rate(step, spec.steps, spec.warmup),
        checks=frozenset(range(0, spec.steps, interval)),
        clip=spec.clip,
    )


def train_tokenizer(texts: Sequence[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: every string round-trips, and no special token is added by default."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )


def _encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> torch.Tensor:
    """Encode all documents as one sequence of ids, each document between bos and eos."""
    import torch

    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    ids = ([tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in rows)
    return torch.tensor(list(itertools.chain.from_iterable(ids)))


def _new_model(spec: BuiltinModel, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        num_key_value_heads=spec.num_key_value_heads,
        head_dim=spec.head_dim,
        intermediate_size=spec.intermediate_size,
        max_position_embeddings=spec.max_position_embeddings,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


@contextmanager
def _pool() -> Iterator[Executor]:
    """Workers for whole shards, each with single-threaded kernels.

    At this size a kernel is too short to split over cores: two workers halve the wall time, while kernels of two
    threads lose the gain in waking each other up.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, _SHARDS)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


class _Task(TrainingTask):
    """Training on the next token, with the gradients of a batch computed in shards, side by side."""

    remedy = "lower the learning rates"

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokens: torch.Tensor,
        validation: torch.Tensor,
        spec: BuiltinModel,
        seed: int,
        pool: Executor,
    ) -> None:
        import torch

        self.trained = self.model = model
        self.parameters = list(model.parameters())
        self.batches = _batches(tokens, spec, torch.Generator().manual_seed(seed))
        self.sample = validation[:: max(1, len(validation) // _CHECK_WINDOWS)]
        self.spec = spec
        self.pool = pool

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the layers' matrices, dealt out to the workers; AdamW for embeddings and norms."""
        import torch

        spec = self.spec
        matrices = [parameter for parameter in decoder_layers(self.model).parameters() if parameter.ndim == 2]
        owned = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in self.parameters if id(parameter) not in owned]
        adamw = torch.optim.AdamW(rest, lr=spec.adamw_learning_rate, weight_decay=spec.weight_decay)
        muons = [
            torch.optim.Muon(matrices[shard::_SHARDS], lr=spec.muon_learning_rate, weight_decay=spec.weight_decay)
            for shard in range(_SHARDS)
        ]
        return [*muons, adamw]

    def gradients(self, step: int) -> float:
        return _set_gradients(self.model, self.parameters, next(self.batches), self.pool)

    def update(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        list(self.pool.map(_step, optimizers))

    def measure(self, step: int) -> dict[str, Any]:
        return {"step": step, "loss": _mean_loss(self.model, self.sample, self.spec.batch_size, self.pool)}


def _step(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


def _batches(tokens: torch.Tensor, spec: BuiltinModel, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches ``[batch_size, sequence_length]``; each epoch cuts the text at other places and reshuffles."""
    import torch

    length = spec.sequence_length
    while True:
        offset = int(torch.randint(length, (1,), generator=generator))
        windows = tokens[offset:].unfold(0, length, length)
        order = torch.randperm(len(windows), generator=generator)
        for rows in order[: len(order) // spec.batch_size * spec.batch_size].split(spec.batch_size):
            yield windows[rows]


def _set_gradients(
    model: LlamaForCausalLM, parameters: list[torch.nn.Parameter], batch: torch.Tensor, pool: Executor
) -> float:
    """Set the gradients of the batch's mean loss, and return the loss."""
    import torch

    def shard_gradients(shard: torch.Tensor) -> tuple[float, tuple[torch.Tensor, ...]]:
        loss = model(input_ids=shard, labels=shard, use_cache=False).loss * (len(shard) / len(batch))
        return loss.item(), torch.autograd.grad(loss, parameters)

    results = list(pool.map(shard_gradients, batch.chunk(_SHARDS)))
    for parameter, *gradients in zip(parameters, *(gradients for _, gradients in results), strict=True):
        parameter.grad = sum(gradients[1:], start=gradients[0])
    return sum(loss for loss, _ in results)


def _mean_loss(model: LlamaForCausalLM, windows: torch.Tensor, batch_size: int, pool: Executor) -> float:
    """Mean negative log-likelihood in nats per predicted token of ``windows`` ``[count, length]``."""
    import torch

    def total(batch: torch.Tensor) -> float:
        with torch.inference_mode():
            return model(input_ids=batch, labels=batch, use_cache=False).loss.item() * len(batch)

    return sum(pool.map(total, windows.split(batch_size))) / len(windows)
