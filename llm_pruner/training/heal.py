"""Heals a pruned model: trains a low-rank change of its linear layers and merges it into an ordinary model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.order import sample_order
from llm_pruner.data.tokens import check_vocabulary
from llm_pruner.models.architecture import read_config
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, load, write_config
from llm_pruner.models.layout import is_linear
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.progress import track
from llm_pruner.training.options import DistillationOptions, HealingOptions

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm
    from transformers import PreTrainedModel

    from llm_pruner.training.objective import Objective


def heal(
    parent: Path,
    output: Path,
    train: torch.Tensor,
    held_out: torch.Tensor,
    options: HealingOptions,
    *,
    keep_zeros: bool,
    teacher: Path | None = None,
    name: str = "Healing",
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Any]:
    """Heal the model in ``parent`` and write it to ``output``: the same shapes, names, dtypes and configuration.

    The base is frozen; adapters are float32 whatever the model's dtype. Tensors outside the targets are copied bit
    for bit. On a CPU the same seed and number of threads give the same bytes.

    Args:
        parent: model folder of any kind this project writes.
        train: int64 [samples, length], gone through in seeded random orders.
        held_out: int64 [samples, length], for the curve alone.
        options: ``LoraOptions`` for the next-token loss, ``DistillationOptions`` to follow ``teacher``.
        keep_zeros: zeros of the targets' weights stay zero (MaskLoRA); for sparse models.
        teacher: folder of the dense model, needed for distillation and otherwise not looked at.
        name: what the progress bar calls it.
        device: where both models go.

    Returns:
        ``trainable_parameters``; ``history``: ``train``, the loss of every step, and ``held_out``, points of ``step``,
        ``loss`` and ``perplexity``, the first before healing and the last after merging; ``perplexity``: held-out
        ``before`` and ``after``; ``zeros``: how many the blocks' linear weights hold, None unless they are kept.
        Losses are what is minimised, in nats per token; perplexities are those of the next token.

    Raises:
        DataError: if tokens have the wrong shape or do not fit the vocabulary.
        ConfigError: if distillation lacks its teacher.
        CheckpointError: if a model cannot be read, training diverges or a zero was lost; nothing is written then.
    """
    import torch

    from llm_pruner.training import adapters, masked
    from llm_pruner.training.objective import Objective

    for tokens, what in ((train, "training tokens"), (held_out, "held-out tokens")):
        _check_tokens(tokens, what, parent)
    objective = Objective(options, _load_teacher(options, teacher, parent, device))
    change = masked if keep_zeros else adapters
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(options.seed)
        model = change.attach(load(parent, device=device), options)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        shape = (options.steps, options.gradient_accumulation, options.batch_size)
        bar = track(sample_order(len(train), shape, options.seed), name, "step", show=progress)
        losses, points = _fit(model, train, held_out, objective, bar)
    model = change.merge(model)
    points.append(objective.measure(model, held_out, options.steps))
    zeros = _write(model, parent, output, options, keep_zeros)
    before, after = points[0]["perplexity"], points[-1]["perplexity"]
    return {
        "trainable_parameters": trainable,
        "history": {"train": losses, "held_out": points},
        "perplexity": {"before": before, "after": after},
        "zeros": zeros if keep_zeros else None,
    }


def _check_tokens(tokens: torch.Tensor, what: str, model: Path) -> None:
    import torch

    if tokens.dtype != torch.int64 or tokens.ndim != 2 or not len(tokens) or tokens.shape[1] < 2:
        raise DataError(
            f"{what} must be int64 [samples, length], at least one sample of two tokens, "
            f"not {tokens.dtype} {tuple(tokens.shape)}"
        )
    check_vocabulary(tokens, model, what)


def _load_teacher(options: HealingOptions, teacher: Path | None, parent: Path, device: str) -> PreTrainedModel | None:
    if not isinstance(options, DistillationOptions):
        return None
    if teacher is None:
        raise ConfigError(["distillation needs a teacher, the dense model's folder"], source="healing")
    theirs, ours = (read_config(folder)["vocab_size"] for folder in (teacher, parent))
    if theirs != ours:
        raise CheckpointError(f"{teacher}: a vocabulary of {theirs} cannot teach {parent}, which has {ours}")
    return load(teacher, device=device).requires_grad_(False)


def _fit(
    model: Any, train: torch.Tensor, held_out: torch.Tensor, objective: Objective, bar: tqdm[torch.Tensor]
) -> tuple[list[float], list[dict[str, Any]]]:
    """Train in place on the samples ``bar`` names; the loss of every step, and the held-out points before the last."""
    import torch

    from llm_pruner.training.schedule import rate

    options = objective.options
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    checks = {check * options.steps // (options.checks - 1) for check in range(options.checks - 1)}
    losses: list[float] = []
    points: list[dict[str, Any]] = []
    for step, batches in enumerate(bar):
        if step in checks:
            points.append(objective.measure(model, held_out, step))
        model.train()
        total = 0.0
        for rows in batches:
            loss, _ = objective.loss(model, train[rows].to(model.device))
            (loss / len(batches)).backward()
            total += loss.item() / len(batches)
        losses.append(objective.finite(total, step))
        torch.nn.utils.clip_grad_norm_(parameters, options.clip)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rate(step, options.steps, options.warmup, options.schedule)
        optimizer.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{total:.2f}", refresh=False)
    return losses, points


def _write(model: PreTrainedModel, parent: Path, output: Path, options: HealingOptions, keep_zeros: bool) -> int:
    """Write the parent's folder anew with the targets' weights as they are now; the zeros in the linear weights."""
    healed = dict(model.named_parameters())
    count = 0
    weights = WeightReader(parent)
    with staged_directory(output) as folder, CheckpointWriter(folder) as writer:
        for name in weights.names():
            tensor = weights.tensor(name)
            if is_linear(name):
                zeros = tensor == 0
                count += int(zeros.sum())
                if name.split(".")[-2] in options.targets:
                    tensor = healed[name].detach().to("cpu", tensor.dtype)
                if keep_zeros and tensor[zeros].any():
                    raise CheckpointError(f"{parent}: healing changed zeros of '{name}', which were to stay")
            writer.add(name, tensor)
        write_config(folder, read_config(parent))
        copy_companions(parent, folder)
    return count
