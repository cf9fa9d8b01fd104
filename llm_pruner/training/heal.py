"""Heals a pruned model: trains a low-rank change of its linear layers and merges it into an ordinary model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.data.tokens import check_vocabulary, digest
from llm_pruner.models.architecture import read_config
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, load, write_config
from llm_pruner.models.layout import is_linear
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.records import Pair
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.healed import Healed, HealingHistory, Point
from llm_pruner.training.options import HealByDistillationOptions, HealingOptions
from llm_pruner.training.resume import identity_of, weight_files
from llm_pruner.training.schedule import rate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_pruner.training.loop import Schedule


def heal(
    parent: Path,
    output: Path,
    train: torch.Tensor,
    held_out: torch.Tensor,
    options: HealingOptions,
    *,
    keep_zeros: bool,
    teacher: Path | None = None,
    resume_point: Path | None = None,
    name: str = "Healing",
    device: str = "cpu",
    progress: bool = False,
) -> Healed:
    """Heal the model in ``parent`` and write it to ``output``: the same shapes, names, dtypes and configuration.

    The model's weights are frozen; adapters are float32 for every dtype of the model. Tensors outside the targets are
    copied bit for bit. On a CPU the same seed and number of threads give the same bytes, also if a killed healing
    continues from ``resume_point``.

    Args:
        parent: model folder of any kind this project writes.
        train: int64 [samples, length], used in seeded random orders.
        held_out: int64 [samples, length], for the curve alone.
        options: ``LoraOptions`` for the next-token loss, ``HealByDistillationOptions`` to imitate ``teacher``.
        keep_zeros: keep zeros of the targets' weights at zero (MaskLoRA); for sparse models.
        teacher: folder of the dense model, needed for distillation, else unused.
        resume_point: folder written at every point of the curve. A resume point of another healing is ignored.
        name: the healing's name on the progress bar.
        device: device of both models.

    Raises:
        DataError: if tokens have the wrong shape or do not fit the vocabulary.
        ConfigError: if distillation lacks its teacher.
        CheckpointError: if a model cannot be read, training diverges or a zero was lost. Then no model is written.
    """
    import torch

    from llm_pruner.training import adapters, masked
    from llm_pruner.training.loop import fit
    from llm_pruner.training.objective import HealingTask

    for tokens, what in ((train, "training tokens"), (held_out, "held-out tokens")):
        _check_tokens(tokens, what, parent)
    guide = _load_teacher(options, teacher, parent, device)
    identity = _identity(parent, train, held_out, options, keep_zeros, teacher) if resume_point else ""
    change = masked if keep_zeros else adapters
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(options.seed)
        model = change.attach(load(parent, device=device), options)
        task = HealingTask(model, train, held_out, options, guide)
        history = fit(
            task,
            _schedule(options),
            resume_point=resume_point,
            identity=identity,
            name=name,
            runtime=Runtime(device, options.batch_size, progress),
        )
    trainable = sum(parameter.numel() for parameter in task.trained.parameters())
    task.model = change.merge(model)
    points = tuple(Point(**point) for point in (*history.points, task.measure(options.steps)))
    zeros = _write(task.model, parent, output, options, keep_zeros)
    return Healed(
        trainable_parameters=trainable,
        history=HealingHistory(train=tuple(history.losses), held_out=points),
        perplexity=Pair(before=points[0].perplexity, after=points[-1].perplexity),
        zeros=zeros if keep_zeros else None,
    )


def _check_tokens(tokens: torch.Tensor, what: str, model: Path) -> None:
    import torch

    if tokens.dtype != torch.int64 or tokens.ndim != 2 or not len(tokens) or tokens.shape[1] < 2:
        raise DataError(
            f"{what} must be int64 [samples, length], at least one sample of two tokens, "
            f"not {tokens.dtype} {tuple(tokens.shape)}"
        )
    check_vocabulary(tokens, model, what)


def _load_teacher(options: HealingOptions, teacher: Path | None, parent: Path, device: str) -> PreTrainedModel | None:
    if not isinstance(options, HealByDistillationOptions):
        return None
    if teacher is None:
        raise ConfigError(["distillation needs a teacher, the dense model's folder"], source="healing")
    theirs, ours = (read_config(folder)["vocab_size"] for folder in (teacher, parent))
    if theirs != ours:
        raise CheckpointError(
            f"{teacher}: its vocabulary of {theirs} differs from {ours} of {parent}; take the parent's dense model"
        )
    return load(teacher, device=device).requires_grad_(False)


def _identity(
    parent: Path,
    train: torch.Tensor,
    held_out: torch.Tensor,
    options: HealingOptions,
    keep_zeros: bool,
    teacher: Path | None,
) -> str:
    """Digest of everything that a healing depends on, the contents of the models included."""
    models = [parent, teacher] if teacher and isinstance(options, HealByDistillationOptions) else [parent]
    described = {
        "options": options.model_dump(mode="json"),
        "keep_zeros": keep_zeros,
        "tokens": [digest(train), digest(held_out)],
        "configs": [read_config(folder) for folder in models],
    }
    return identity_of(described, *weight_files(*models))


def _schedule(options: HealingOptions) -> Schedule:
    """The schedule, with all checks except the last, which follows merging."""
    from llm_pruner.training.loop import Schedule

    return Schedule(
        steps=options.steps,
        factor=lambda step: rate(step, options.steps, options.warmup, options.schedule),
        checks=frozenset(check * options.steps // (options.checks - 1) for check in range(options.checks - 1)),
        clip=options.clip,
    )


def _write(model: PreTrainedModel, parent: Path, output: Path, options: HealingOptions, keep_zeros: bool) -> int:
    """Write the parent's folder with the healed weights, and return the number of zeros in the linear weights."""
    healed = dict(model.named_parameters())
    count = 0
    weights = WeightReader(parent)
    with staged_directory(output, inputs=[parent]) as folder, CheckpointWriter(folder) as writer:
        for name in weights.names():
            tensor = weights.tensor(name)
            if is_linear(name):
                zeros = tensor == 0
                count += int(zeros.sum())
                if name.split(".")[-2] in options.targets:
                    tensor = healed[name].detach().to("cpu", tensor.dtype)
                if keep_zeros and tensor[zeros].any():
                    raise CheckpointError(f"{parent}: healing changed zeros of '{name}', which must stay zero")
            writer.add(name, tensor)
        write_config(folder, read_config(parent))
        copy_companions(parent, folder)
    return count
