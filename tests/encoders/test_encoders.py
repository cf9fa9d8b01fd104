"""Classifiers: importance and schedules by hand, masks against cuts, fake against stored quantisation, resuming."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_pruner.encoders.architecture import EncoderShape, Widths, check_pruned_share, read_shape
from llm_pruner.encoders.folder import load_classifier, load_encoder_tokenizer, save_classifier
from llm_pruner.encoders.group_scores import GradientWindow, Groups, choose, group_scores, magnitudes, normalise
from llm_pruner.encoders.masking import Masks
from llm_pruner.encoders.objective import Student
from llm_pruner.encoders.options import (
    ClassifierDistillationOptions,
    PruningOptions,
    QATOptions,
    QuantizationOptions,
    TaskOptions,
    TeacherOptions,
)
from llm_pruner.encoders.prune import PruningTraining, prune_classifier
from llm_pruner.encoders.quantize import fake_quantize, module_bits, quantize_classifier, train_quantized
from llm_pruner.encoders.records.classifier import ClassifierRecord
from llm_pruner.encoders.records.report import FinalReport, MeasuredRun
from llm_pruner.encoders.report import by_name, final_report, with_distinct_names
from llm_pruner.encoders.runs import find_run, read_record
from llm_pruner.encoders.schedule import Schedule, cosine, polynomial
from llm_pruner.encoders.surgery import cut_classifier
from llm_pruner.encoders.tasks import GLUE, Batch, ClassificationTask, Example, encode, load_task
from llm_pruner.encoders.teacher import train_teacher
from llm_pruner.encoders.training import evaluate
from llm_pruner.models.packed import keep_gradients, memory_bytes, parameter_count
from llm_pruner.report.encoders import encoder_runs_table, encoders_table
from llm_pruner.report.figures import FIGURES
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError, PlanError, PrunerError
from llm_pruner.system.files import read_json
from llm_pruner.training import loop
from llm_pruner.training.resume import clear_resume_point
from tests.tiny.commands import killed_and_whole
from tests.tiny.families import VOCABULARY
from tests.tiny.text import WORDS

FAMILIES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 20},
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 20,
    },
}
FAMILIES["roberta"] = {**FAMILIES["bert"], "max_position_embeddings": 24}
LENGTH = 10
PAIRS = ClassificationTask("pairs", ("a", "b"), {"train": [Example("the of", "a", 0), Example("the", "of", 1)]})


def build(family: str, classes: int = 3, **overrides: Any) -> Any:
    """A random classifier with weights large enough that every group changes the output."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shape = {**FAMILIES[family], "vocab_size": VOCABULARY, "num_labels": classes, "pad_token_id": 0, **overrides}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **shape)).eval()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        parameter.data.normal_(
            1.0 if "LayerNorm.weight" in name or "norm.weight" in name else 0.0, 0.15, generator=generator
        )
    return model


def shape_of(model: Any) -> EncoderShape:
    return EncoderShape(model.config.to_dict())


@pytest.fixture(scope="session")
def reader() -> Any:
    """Tokenizer with one token per word; the class is read from the first token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    known = {"<pad>": 0, "<s>": 1, "<unk>": 2, **{word: 3 + index for index, word in enumerate(WORDS)}}
    words = Tokenizer(models.WordLevel(known, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", cls_token="<s>")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of random words; the class tells which of three words each contains."""
    path = tmp_path_factory.mktemp("data") / "sentences.jsonl"
    draw = random.Random(0)
    rows = []
    for index in range(400):
        words = draw.choices(WORDS[3:], k=draw.randint(4, 8))
        words.insert(draw.randrange(len(words)), WORDS[index % 3])
        rows.append({"text": " ".join(words), "label": f"has {WORDS[index % 3]}"})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture(scope="session")
def task(data: Path) -> TaskOptions:
    return TaskOptions(dataset=str(data), length=LENGTH)


@pytest.fixture(scope="session")
def teacher(reader: Any, task: TaskOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a DistilBERT trained on the sentences."""
    root = tmp_path_factory.mktemp("teacher")
    build("distilbert").save_pretrained(root / "source")
    reader.save_pretrained(root / "source")
    options = TeacherOptions(source=str(root / "source"), epochs=8, learning_rate=5e-3, checks=4)
    record = train_teacher(root / "run", task, options, device="cpu")
    assert record.validation and record.validation.accuracy > 0.8
    return root / "run"


@pytest.fixture
def batch() -> Batch:
    """Random tokens with some padding."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, VOCABULARY, (6, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = mask[4, 3:] = 0
    return Batch(ids * mask, mask, torch.zeros_like(ids), torch.arange(6) % 3)


def logits(model: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def weights_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


# --- importance and schedules ------------------------------------------------------------------------------


def brute(shape: EncoderShape, tensors: Mapping[str, torch.Tensor], power: int) -> list[float]:
    """Sum |element|^power over each group, element by element, from the names of the tensors."""
    sums = []
    for kind in ("heads", "neurons"):
        for layer, width in enumerate(shape.layers):
            *inputs, output, first, second = shape.linears(layer)
            for unit in range(getattr(width, kind)):
                span = slice(8 * unit, 8 * unit + 8) if kind == "heads" else slice(unit, unit + 1)
                into, out = (inputs, output) if kind == "heads" else ([first], second)
                parts = [tensors[f"{name}.{part}"][span] for name in into for part in ("weight", "bias")]
                parts.append(tensors[f"{out}.weight"][:, span])
                sums.append(sum(float(part.abs().double().pow(power).sum()) for part in parts))
    return sums


@pytest.mark.parametrize("family", FAMILIES)
def test_importance_counts_every_parameter_of_a_group(family: str, batch: Batch) -> None:
    model = build(family)
    shape = shape_of(model)
    groups = Groups(shape)
    assert groups.sizes == [4, 4, 4, 24, 24, 24] and groups.heads == 12
    assert (shape.head_parameters, shape.neuron_parameters) == (8 * (4 * 32 + 3), 2 * 32 + 1)
    counts = groups.parameters.double()
    expected = (torch.tensor(brute(shape, model.state_dict(), 2)) / counts).sqrt()
    torch.testing.assert_close(magnitudes(model, groups).double(), expected, rtol=1e-5, atol=1e-7)

    window, seen = GradientWindow(model, groups, passes=2), []
    assert not window.mean().any()
    for scale in (1.0, 3.0, -2.0):
        model.zero_grad()
        (scale * model(input_ids=batch.input_ids, labels=batch.labels).loss).backward()
        window.collect()
        products = {name: p.grad * p.detach() for name, p in model.named_parameters() if p.grad is not None}
        seen.append(torch.tensor(brute(shape, products, 1)) / counts)
    expected = (seen[1] + seen[2]) / 2  # the first pass is out of the window
    torch.testing.assert_close(window.mean().double(), expected, rtol=1e-4, atol=1e-9)


@pytest.fixture
def small() -> Groups:
    """Two layers of two heads and two neurons each; a head has 12 + 3 parameters, a neuron 7."""
    return Groups(
        EncoderShape(
            {
                "model_type": "distilbert",
                "dim": 3,
                "n_layers": 2,
                "n_heads": 3,
                "hidden_dim": 2,
                "layer_widths": [{"heads": 2, "neurons": 2}] * 2,
            }
        )
    )


def test_importance_by_hand(small: Groups) -> None:
    assert small.parameters.tolist() == [15] * 4 + [7] * 4
    magnitude = torch.tensor([1.0, 2.0, 3.0, 5.0, 2.0, 6.0, 10.0, 4.0])
    gradient = torch.tensor([4.0, 0.0, 1.0, 2.0, 8.0, 8.0, 0.0, 4.0])
    apart = PruningOptions(lambda_mag=2.0, lambda_grad=1.0)
    both = group_scores(magnitude, gradient, small, apart)
    expected = [0 + 1, 0.5 + 0, 1 + 0.25, 2 + 0.5, 0 + 1, 1 + 1, 2 + 0, 0.5 + 0.5]
    assert both.tolist() == pytest.approx(expected)
    only = group_scores(magnitude, gradient, small, apart.model_copy(update={"importance_mode": "kd_grad"}))
    assert only.tolist() == pytest.approx([1, 0, 0.25, 0.5, 1, 1, 0, 0.5])
    together = apart.model_copy(update={"importance_mode": "l2", "enable_multi_granularity": False})
    found = group_scores(magnitude, gradient, small, together)
    assert found.tolist() == pytest.approx([0, 1 / 9, 2 / 9, 4 / 9, 1 / 9, 5 / 9, 1, 3 / 9])
    assert normalise(torch.full((3,), 7.0)).tolist() == [0, 0, 0]


def test_groups_are_chosen_by_importance_within_their_budget(small: Groups) -> None:
    scores = torch.tensor([0.3, 0.1, 0.2, 0.4, 0.5, 0.9, 0.8, 0.7])
    apart = PruningOptions(head_final_sparsity=0.5, ffn_final_sparsity=0.5)
    assert choose(scores, small, [], 1.0, apart) == [1, 2, 4, 7]
    assert choose(scores, small, [], 0.5, apart) == [1, 4]
    together = PruningOptions(enable_multi_granularity=False, final_sparsity=0.5)
    # 44 of 88 parameters: heads 1 and 2 (30) and neuron 4 (7); neuron 7 fits as well
    assert choose(scores, small, [], 1.0, together) == [1, 2, 4, 7]
    assert choose(scores, small, [], 0.4, together) == [1]
    best_stay = torch.tensor([0.1, 0.2, 0.8, 0.9, 0.1, 0.2, 0.8, 0.9])
    assert choose(best_stay, small, [], 1.0, apart) == [0, 2, 4, 6]


def test_pruned_groups_stay_until_the_share_falls(small: Groups) -> None:
    options = PruningOptions(head_final_sparsity=0.5, ffn_final_sparsity=0.5)
    first = choose(torch.tensor([0.3, 0.1, 0.2, 0.4, 0.5, 0.9, 0.8, 0.7]), small, [], 0.5, options)
    other = torch.tensor([0.1, 0.9, 0.8, 0.2, 0.9, 0.8, 0.1, 0.2])
    more = choose(other, small, first, 1.0, options)
    assert more[:2] == first == [1, 4] and set(more[2:]) == {3, 6}
    assert choose(other, small, more, 0.5, options) == first
    assert choose(other, small, more, 0.0, options) == []


def test_schedules_by_hand() -> None:
    assert [polynomial(update, 10, 20) for update in (0, 10, 15, 20, 99)] == [0, 0, 1 - 0.125, 1, 1]
    assert polynomial(15, 10, 20, power=1.0) == 0.5
    assert [cosine(update, 0, 6) for update in (0, 2, 3, 6, 9)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    schedule = Schedule(PruningOptions(schedule="dynamic", tolerance=0.1, backoff=0.5), final_update=6)
    shares = []
    for accuracy in (0.8, 0.75, 0.6, 0.65, 0.9):
        schedule.checked(accuracy)
        shares.append(schedule.share(3))
    assert shares == pytest.approx([0.5, 0.5, 0.25, 0.125, 0.25])


def test_impossible_pruned_share_is_refused() -> None:
    shape = shape_of(build("bert"))
    check_pruned_share(shape, PruningOptions(head_final_sparsity=0.75, ffn_final_sparsity=1 - 3 / 72))
    with pytest.raises(PlanError, match=r"head_final_sparsity: 0.8 leaves a layer without .* at most 0.7500"):
        check_pruned_share(shape, PruningOptions(head_final_sparsity=0.8))
    kept, every = 3 * (1048 + 65), 12 * 1048 + 72 * 65
    most = 1 - kept / every
    together = PruningOptions(enable_multi_granularity=False, final_sparsity=most)
    check_pruned_share(shape, together)
    with pytest.raises(PlanError, match=r"final_sparsity: 0\.99 leaves"):
        check_pruned_share(shape, together.model_copy(update={"final_sparsity": 0.99}))
    with pytest.raises(ValueError, match="less than 1"):
        PruningOptions(final_sparsity=1.0)


# --- losses ------------------------------------------------------------------------------------------------


def test_terms_of_the_loss_vanish_for_the_teacher_itself(batch: Batch) -> None:
    model = build("bert")
    for term in ("beta_logits", "beta_hidden", "beta_attention"):
        options = ClassifierDistillationOptions(**{"beta_ce": 0.0, "beta_logits": 0.0, term: 2.0})
        same, other = Student(build("bert"), build("bert"), options).eval(), build("bert")
        assert same.loss(batch).item() == pytest.approx(0, abs=1e-6)
        for parameter in other.parameters():
            parameter.data.mul_(1.1)
        assert Student(other, model, options).eval().loss(batch).item() > 1e-4, term
    ce = ClassifierDistillationOptions(beta_ce=2.0, beta_logits=0.0)
    expected = 2 * torch.nn.functional.cross_entropy(logits(model, batch), batch.labels)
    assert Student(model, build("bert"), ce).eval().loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_attention_maps_are_of_the_heads_that_are_left(batch: Batch) -> None:
    options = ClassifierDistillationOptions(beta_ce=0.0, beta_logits=0.0, beta_attention=1.0)
    student, teacher = build("distilbert"), build("distilbert")
    kept = [torch.tensor([1.0, 0.0, 0.0, 1.0])] * 3
    found = Student(student, teacher, options).eval().loss(batch, kept).item()
    maps = student(input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_attentions=True).attentions
    expected = []
    for layer in maps:
        errors = []
        for row in range(6):
            length = int(batch.attention_mask[row].sum())
            ours, theirs = ((layer[row, heads].mean(0)[:length, :length]) for heads in ([0, 3], [0, 1, 2, 3]))
            errors.append((ours - theirs).square().flatten())
        expected.append(torch.cat(errors).mean().item())
    assert found == pytest.approx(sum(expected) / 3, rel=1e-4)


def test_narrower_student_is_projected_onto_its_teacher(batch: Batch) -> None:
    options = ClassifierDistillationOptions(beta_hidden=1.0)
    student = Student(build("distilbert", dim=16, n_layers=2, n_heads=2), build("bert"), options)
    assert student.projection is not None and student.projection.weight.shape == (32, 16)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        losses.append(student.loss(batch))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1].item() < 0.7 * losses[0].item()
    with pytest.raises(CheckpointError, match="3 classes cannot teach a student of 2"):
        Student(build("bert", classes=2), build("bert"), options)
    with pytest.raises(CheckpointError, match="97 tokens cannot teach a student of 50"):
        Student(build("bert", vocab_size=50), build("bert"), options)


# --- surgery -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_model_computes_what_the_masked_one_does(family: str, batch: Batch, reader: Any, tmp_path: Path) -> None:
    model = build(family)
    shape = shape_of(model)
    masks = Masks(model, Groups(shape))
    whole = logits(model, batch)
    gone = [0, 2, 5, 9, 10, 11, *range(12, 30), 40, 41, *range(61, 84)]
    masks.prune(gone)
    masked = logits(model, batch)
    assert (masked - whole).abs().max() > 0.01
    heads, neurons = masks.survivors()
    cut = cut_classifier(shape, model.state_dict(), heads, neurons)
    torch.testing.assert_close(logits(cut, batch), masked, rtol=1e-4, atol=1e-5)
    assert shape_of(cut).layers == [Widths(2, 6), Widths(3, 22), Widths(1, 1)]
    assert parameter_count(model) - parameter_count(cut) == int(masks.groups.parameters[gone].sum())

    save_classifier(cut, reader, tmp_path)
    again = load_classifier(tmp_path)
    assert torch.equal(logits(again, batch), logits(cut, batch))
    # a cut model can be cut again
    masks = Masks(again, Groups(read_shape(tmp_path)))
    masks.prune([0, 6])
    masked = logits(again, batch)
    heads, neurons = masks.survivors()
    twice = cut_classifier(read_shape(tmp_path), again.state_dict(), heads, neurons)
    torch.testing.assert_close(logits(twice, batch), masked, rtol=1e-4, atol=1e-5)
    masks.detach()
    assert torch.equal(logits(again, batch), logits(cut, batch))


# --- quantisation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "bits", "layer_bits", "double_quant"),
    [
        *((family, 4, {1: 8}, double_quant) for family in FAMILIES for double_quant in (False, True)),
        ("distilbert", 4, {}, False),
        ("bert", 8, {}, False),
    ],
)
def test_fake_quantisation_is_what_is_stored(
    family: str, bits: Any, layer_bits: Any, double_quant: bool, batch: Batch, reader: Any, tmp_path: Path
) -> None:
    options = QuantizationOptions(bits=bits, layer_bits=layer_bits, double_quant=double_quant)
    save_classifier(build(family), reader, tmp_path / "source")
    quantize_classifier(tmp_path / "source", tmp_path / "run", options)
    stored = load_classifier(tmp_path / "run" / "model")
    faked = build(family)
    fake_quantize(faked, module_bits(shape_of(faked), options), double_quant)
    assert torch.equal(logits(stored, batch), logits(faked, batch))
    assert (logits(stored, batch) - logits(build(family), batch)).abs().max() > 1e-4
    assert memory_bytes(stored) < memory_bytes(build(family))
    assert parameter_count(stored) == parameter_count(build(family))


def test_gradients_go_straight_through(batch: Batch) -> None:
    options = QuantizationOptions(layer_bits={0: 8})
    faked, fixed = build("distilbert"), build("distilbert")
    bits = module_bits(shape_of(faked), options)
    fake_quantize(faked, bits, False)
    for name in bits:
        fixed.get_submodule(name).weight.data = faked.get_submodule(name).weight.detach().clone()
    for model in (faked, fixed):
        model(input_ids=batch.input_ids, labels=batch.labels).loss.backward()
    for name in bits:
        ours = faked.get_submodule(name).parametrizations.weight.original
        torch.testing.assert_close(ours.grad, fixed.get_submodule(name).weight.grad)
        assert ours.grad.abs().max() > 0


def test_stored_model_still_gives_gradients_after_an_evaluation(batch: Batch, reader: Any, tmp_path: Path) -> None:
    save_classifier(build("distilbert", dim=64), reader, tmp_path / "source")
    quantize_classifier(tmp_path / "source", tmp_path / "run", QuantizationOptions())
    stored, faked = load_classifier(tmp_path / "run" / "model"), build("distilbert", dim=64)
    assert keep_gradients(stored) is stored
    fake_quantize(faked, module_bits(shape_of(faked), QuantizationOptions()), False)
    logits(stored, batch)  # triggers the repacking
    grads = []
    for model in (stored, faked):
        model.train(False)
        model(input_ids=batch.input_ids, labels=batch.labels).loss.backward()
        grads.append(model.distilbert.embeddings.word_embeddings.weight.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-6)


def test_other_interpreters_load_what_was_written(batch: Batch, reader: Any, tmp_path: Path) -> None:
    """Load with transformers alone, in another folder, without this package on the path."""
    expected = {}
    for family, layer_bits in (("roberta", None), ("bert", {1: 8}), ("distilbert", {})):
        folder = tmp_path / family
        model = build(family)
        masks = Masks(model, Groups(shape_of(model)))
        masks.prune([0, 2, 5, *range(12, 30)])
        folder.mkdir()
        save_classifier(cut_classifier(shape_of(model), model.state_dict(), *masks.survivors()), reader, folder)
        if layer_bits is not None:
            quantize_classifier(folder, tmp_path / f"{family}-4", QuantizationOptions(layer_bits=layer_bits))
            folder = tmp_path / f"{family}-4" / "model"
        classifier = load_classifier(folder)
        expected[str(folder)] = logits(classifier, batch)
        with torch.no_grad():
            inner = classifier.base_model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        expected[f"{folder} without head"] = inner.last_hidden_state
    save_file({"ids": batch.input_ids, "mask": batch.attention_mask}, tmp_path / "batch.safetensors")
    program = """
import sys, torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner
from transformers import AutoModel, AutoModelForSequenceClassification
torch.set_grad_enabled(False)
batch, found = load_file("batch.safetensors"), {}
for folder in sys.argv[1:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    found[folder] = model(input_ids=batch["ids"], attention_mask=batch["mask"]).logits.float()
    inner = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    inner = inner(input_ids=batch["ids"], attention_mask=batch["mask"]).last_hidden_state
    found[f"{folder} without head"] = inner.float().contiguous()
assert not [name for name in sys.modules if name.startswith("llm_pruner")]
save_file(found, "found.safetensors")
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    folders = [name for name in expected if not name.endswith("without head")]
    command = [sys.executable, "-P", "-c", program, *folders]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = load_file(tmp_path / "found.safetensors")
    for folder, own in expected.items():
        torch.testing.assert_close(found[folder], own, rtol=1e-5, atol=1e-6)


# --- training ----------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"epochs": 2, "learning_rate": 3e-3, "checks": 4}


@pytest.fixture
def pruned(teacher: Path, task: TaskOptions, tmp_path: Path) -> ClassifierRecord:
    options = PruningOptions(
        **QUICK, head_final_sparsity=0.5, ffn_final_sparsity=0.75, beta_attention=0.1, mask_every=2
    )
    return prune_classifier(teacher / "model", tmp_path / "pruned", task, options, device="cpu")


def validation_of(folder: Path, task: TaskOptions) -> dict[str, float]:
    batch = encode(load_task(task), "validation", load_encoder_tokenizer(folder, task.length), task.length)
    return evaluate(load_classifier(folder), batch)


def test_pruning_reaches_its_share_and_keeps_the_measured_weights(
    pruned: ClassifierRecord, teacher: Path, task: TaskOptions, tmp_path: Path
) -> None:
    assert pruned.kind == "Pruned" and pruned.reached and pruned.validation and pruned.history
    assert (pruned.reached.heads, pruned.reached.neurons) == (0.5, 0.75)
    assert ClassifierRecord.read(tmp_path / "pruned" / "record.json") == pruned
    shape = read_shape(tmp_path / "pruned" / "model")
    assert sum(width.heads for width in shape.layers) == 6 and sum(width.neurons for width in shape.layers) == 18
    assert min(min(width) for width in shape.layers) >= 1
    best = pruned.validation
    found = validation_of(tmp_path / "pruned" / "model", task)
    assert found == pytest.approx({key: getattr(best, key) for key in found}, rel=1e-4)
    assert best.sparsity == pruned.reached.parameters
    rising = [point.sparsity for point in pruned.history.points]
    assert rising == sorted(rising) and rising[0] == 0
    FIGURES["classifier_curves"].draw(pruned, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    size = (tmp_path / "pruned" / "model" / "model.safetensors").stat().st_size
    assert size < 0.75 * (teacher / "model" / "model.safetensors").stat().st_size


def test_groups_ranked_together_share_one_budget(teacher: Path, task: TaskOptions, tmp_path: Path) -> None:
    options = PruningOptions(**QUICK, enable_multi_granularity=False, final_sparsity=0.4, importance_mode="l2")
    record = prune_classifier(teacher / "model", tmp_path / "run", task, options, name="Uniform", device="cpu")
    assert record.reached and record.reached.parameters == pytest.approx(0.4, abs=65 / (12 * 1048 + 72 * 65))
    nothing = options.model_copy(update={"final_sparsity": 0.0})
    control = prune_classifier(teacher / "model", tmp_path / "control", task, nothing, device="cpu")
    assert control.kind == "Student" and read_shape(tmp_path / "control" / "model").layers == [Widths(4, 24)] * 3
    # an ordinary DistilBERT needs no modelling file of this project
    assert not list((tmp_path / "control" / "model").glob("*.py"))
    assert not {"auto_map", "layer_widths"} & read_json(tmp_path / "control" / "model" / "config.json").keys()


def test_pruned_classifier_is_pruned_further(
    pruned: ClassifierRecord, teacher: Path, task: TaskOptions, tmp_path: Path
) -> None:
    start, quick = tmp_path / "pruned" / "model", {**QUICK, "epochs": 1, "mask_every": 2}
    half = PruningOptions(**quick, head_final_sparsity=0.5, ffn_final_sparsity=0.5)
    further = prune_classifier(teacher / "model", tmp_path / "further", task, half, student=start, device="cpu")
    # 12 heads, then 6, then 3; 72 neurons, then 18, then 9
    assert further.reached and (further.reached.heads, further.reached.neurons) == (0.75, 0.875)
    left = read_shape(tmp_path / "further" / "model").layers
    assert [row.heads for row in further.layers] == [(width.heads, 4) for width in left]
    assert sum(width.neurons for width in left) == 9
    assert further.history and pruned.reached
    assert further.history.points[0].sparsity == pruned.reached.parameters
    nothing = PruningOptions(**quick, enable_multi_granularity=False, final_sparsity=0, final_step=1)
    longer = prune_classifier(teacher / "model", tmp_path / "longer", task, nothing, student=start, device="cpu")
    assert longer.kind == "Pruned" and longer.reached == pruned.reached
    quantize_classifier(start, tmp_path / "ptq", QuantizationOptions())
    with pytest.raises(CheckpointError, match="quantised already"):
        prune_classifier(teacher / "model", tmp_path / "x", task, half, student=tmp_path / "ptq" / "model")


def test_dynamic_schedule_gives_groups_back_where_accuracy_falls() -> None:
    options = PruningOptions(schedule="dynamic", backoff=0.5, mask_every=1, head_final_sparsity=0.75)
    model = build("distilbert")
    groups = Groups(shape_of(model))
    training = PruningTraining(Student(model, model, options), groups, Masks(model, groups), options, final_update=8)
    training.checked({"accuracy": 0.9})
    reached = []
    for update, accuracy in ((4, 0.89), (6, 0.5), (6, 0.6), (7, 0.9), (8, 0.9)):
        training.begin(update)
        reached.append(training.reached())
        training.checked({"accuracy": accuracy})
    # 50 % and 85 % of the cosine; halved after the fall, and again; doubled after the recovery
    assert [one.heads for one in reached] == pytest.approx([4 / 12, 7 / 12, 3 / 12, 2 / 12, 4 / 12])
    assert reached[2].neurons < reached[1].neurons


def test_quantisation_aware_training_lowers_its_loss_and_keeps_the_quantised_weights(
    pruned: ClassifierRecord, teacher: Path, task: TaskOptions, tmp_path: Path
) -> None:
    options = QATOptions(epochs=4, learning_rate=2e-3, checks=4, beta_attention=0.1)
    quantization = QuantizationOptions(layer_bits={0: 8})
    record = train_quantized(
        teacher / "model", tmp_path / "pruned" / "model", tmp_path / "qkd", task, options, quantization, device="cpu"
    )
    assert record.history and record.bits
    losses = record.history.train
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    found = validation_of(tmp_path / "qkd" / "model", task)
    assert found == pytest.approx({key: getattr(record.validation, key) for key in found}, rel=1e-5)
    assert set(record.bits.values()) == {4, 8} and record.reached == pruned.reached
    for call in (
        quantize_classifier,
        lambda *given: train_quantized(teacher / "model", *given[:2], task, options, given[2]),
    ):
        with pytest.raises(CheckpointError, match="quantised already"):
            call(tmp_path / "qkd" / "model", tmp_path / "again", quantization)
    with pytest.raises(PlanError, match="no layer 3; the model has 3"):
        quantize_classifier(tmp_path / "pruned" / "model", tmp_path / "x", QuantizationOptions(layer_bits={3: 8}))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_other_families_go_all_the_way(family: str, reader: Any, task: TaskOptions, tmp_path: Path) -> None:
    build(family, classes=2).save_pretrained(tmp_path / "source")  # a head for other classes is replaced
    reader.save_pretrained(tmp_path / "source")
    quick = {"epochs": 0.5, "checks": 2}
    train_teacher(tmp_path / "teacher", task, TeacherOptions(source=str(tmp_path / "source"), **quick), device="cpu")
    teacher = tmp_path / "teacher" / "model"
    record = prune_classifier(teacher, tmp_path / "pruned", task, PruningOptions(**quick), device="cpu")
    assert record.reached and (record.reached.heads, record.reached.neurons) == (0.5, 0.5)
    pruned, options = tmp_path / "pruned" / "model", QATOptions(**quick, beta_attention=0.1)
    record = train_quantized(teacher, pruned, tmp_path / "qkd", task, options, QuantizationOptions(), device="cpu")
    found = validation_of(tmp_path / "qkd" / "model", task)
    assert found == pytest.approx({key: getattr(record.validation, key) for key in found}, rel=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["teacher", "prune", "qat"])
def test_interrupted_training_ends_as_if_nothing_had_been(
    kind: str, teacher: Path, task: TaskOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = teacher.parent / "source"

    def make(name: str, seed: int = 0) -> Path:
        output = tmp_path / name
        if kind == "teacher":
            train_teacher(output, task, TeacherOptions(source=str(untrained), seed=seed, **QUICK), device="cpu")
        elif kind == "prune":
            options = PruningOptions(**QUICK, schedule="dynamic", tolerance=0.0, mask_every=3, pruning_window_steps=5)
            prune_classifier(teacher / "model", output, task, options, device="cpu")
        else:
            bits = QuantizationOptions()
            train_quantized(teacher / "model", untrained, output, task, QATOptions(**QUICK), bits, device="cpu")
        return output

    whole = make("whole")
    save, saved = loop._Loop._save, []

    def killed_after_the_third(running: Any, folder: Path) -> None:
        save(running, folder)
        saved.append(folder)
        if len(saved) == 3:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop._Loop, "_save", killed_after_the_third)
        with pytest.raises(Killed):
            make("stopped")
    updates = read_json(tmp_path / "stopped" / "resume_point" / "state.json")["history"]["step"]
    assert updates > 0 and not (tmp_path / "stopped" / "model").exists()
    stopped = make("stopped")
    assert weights_of(stopped) == weights_of(whole)
    histories = [read_record(folder).history for folder in (whole, stopped)]
    assert histories[0] == histories[1] and histories[0] and histories[0].best.step > updates
    clear_resume_point(stopped)
    assert {path.name for path in stopped.iterdir()} == {"model", "record.json"}
    # a second call resumes from the end; a call with another seed ignores the resume point
    assert weights_of(make("whole")) == weights_of(stopped)
    if kind == "teacher":
        assert weights_of(make("whole", seed=1)) == weights_of(make("fresh", seed=1)) != weights_of(stopped)


def test_killed_command_goes_on(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate process, ended by SIGKILL in the middle of its training."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ["distill", "prune", "--teacher", str(teacher), "--device", "cpu", "--no-progress"]
    for option in ("epochs=4", "checks=8", "learning_rate=0.003"):
        arguments += ["--option", option]
    killed, whole = killed_and_whole(arguments, tmp_path)
    assert weights_of(killed) == weights_of(whole)


def test_teacher_that_knows_the_task_is_taken_as_it_is(teacher: Path, task: TaskOptions, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(teacher / "model", source)
    config = read_json(source / "config.json")

    def taken(name: str, classes: Sequence[str]) -> float:
        changed = {**config, "id2label": dict(enumerate(classes)), "label2id": {}}
        (source / "config.json").write_text(json.dumps(changed))
        asked = TeacherOptions(source=str(source), epochs=0)
        return accuracy(train_teacher(tmp_path / name, task, asked, device="cpu"))

    def accuracy(record: ClassifierRecord) -> float:
        assert record.validation
        return record.validation.accuracy

    known = accuracy(read_record(teacher))
    names = [config["id2label"][str(index)] for index in range(3)]
    assert taken("same", names) == known
    same = read_record(tmp_path / "same")
    assert same.history and same.history.train == ()
    FIGURES["classifier_curves"].draw(same, tmp_path / "curves.png")
    assert taken("numbered", ["LABEL_0", "LABEL_1", "LABEL_2"]) == known
    # in this order of names, row 0 of the head is class 2 of the task
    assert taken("turned", [names[2].upper(), names[0], names[1]]) < 0.5
    found, source_model = load_classifier(tmp_path / "turned" / "model"), load_classifier(source)
    assert torch.equal(found.classifier.weight, source_model.classifier.weight[[1, 2, 0]])
    assert torch.equal(found.classifier.bias, source_model.classifier.bias[[1, 2, 0]])
    with pytest.raises(CheckpointError, match=r"classes \(a, b, c\) are not the task's \(has .*set epochs above 0"):
        taken("x", ["a", "b", "c"])
    headless = {key: value for key, value in source_model.state_dict().items() if not key.startswith("classifier")}
    save_file(headless, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"no weight 'classifier.bias'; set epochs above 0"):
        taken("y", names)
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()
    with pytest.raises(ValueError, match="starts at random"):
        TeacherOptions(epochs=0)


def test_stops_early_and_keeps_the_best(teacher: Path, task: TaskOptions, tmp_path: Path) -> None:
    options = TeacherOptions(source=str(teacher / "model"), epochs=3, learning_rate=1e-9, checks=9, patience=2)
    record = train_teacher(tmp_path, task, options, device="cpu")
    history = record.history
    assert history and history.stopped_early and len(history.points) == 3 and history.best.step == 0
    assert len(history.train) < history.steps


# --- data and mistakes -------------------------------------------------------------------------------------


def test_files_become_tasks(tmp_path: Path) -> None:
    rows = [("one", "x", "10"), ("two, three", "y", "9")] * 15
    lines = ["first,second,class", *(f'"{a}{i}",{b},{c}' for i, (a, b, c) in enumerate(rows))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    columns = {"text_column": "first", "pair_column": "second", "label_column": "class"}
    task = load_task(TaskOptions(dataset=str(tmp_path / "pairs.csv"), **columns))
    assert task.labels == ("9", "10") and task.name == "pairs"
    assert sum(len(split) for split in task.splits.values()) == 30 and all(task.splits.values())
    assert {example.pair for split in task.splits.values() for example in split} == {"x", "y"}
    (tmp_path / "test.csv").write_text("\n".join(lines[:3]) + "\n")
    named = load_task(TaskOptions(dataset=str(tmp_path / "pairs.csv"), test=str(tmp_path / "test.csv"), **columns))
    assert len(named.splits["test"]) == 2 and sum(len(split) for split in named.splits.values()) == 32


def test_only_bert_takes_segments(reader: Any) -> None:
    batch = encode(PAIRS, "train", reader, LENGTH)
    assert batch.segments.tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 0]]
    assert "token_type_ids" in batch.inputs(build("bert"))
    for family in ("distilbert", "roberta"):
        assert set(batch.inputs(build(family, type_vocab_size=1))) == {"input_ids", "attention_mask"}
    assert batch.rows(torch.tensor([1]), "cpu").input_ids.shape == (1, 4)


def test_built_in_task_is_balanced_and_its_splits_are_apart() -> None:
    task = load_task(TaskOptions())
    texts = [{example.text for example in task.splits[split]} for split in ("train", "validation", "test")]
    assert not texts[0] & texts[1] and not texts[1] & texts[2] and not texts[0] & texts[2]
    counts = [sum(example.label == label for example in task.splits["train"]) for label in range(len(task.labels))]
    assert min(counts) > 0.8 * max(counts) and len(task.splits["test"]) > 400
    assert not [
        e for e in task.splits["train"] if task.labels[e.label] in e.text.lower() and task.labels[e.label] != "c"
    ]


@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        ({"dataset": "sst3"}, "", "'sst3' is neither a file nor a known data set; did you mean 'sst2'"),
        ({"dataset": "stsb"}, "", "a regression"),
        ({"dataset": "data.jsonl"}, '{"txt": "a", "label": 0}', "line 1: no column 'text'; did you mean 'txt'"),
        (
            {"dataset": "data.csv", "label_column": "y"},
            "text,label\na,1\n",
            "line 2: no column 'y'; known: label",
        ),
        ({"dataset": "data.jsonl"}, "{'a'}", "line 1, column 2: not a JSON object"),
        ({"dataset": "data.jsonl"}, "", "no example"),
        ({"dataset": "data.csv"}, "text,label\n" + "a,1\n" * 50, "only one class|too few examples"),
        ({"dataset": "data.parquet"}, "x", "unknown suffix; name a .csv, .tsv or .jsonl file"),
        ({"dataset": "builtin", "test": "data.csv"}, "x", "has its own splits"),
    ],
)
def test_bad_data_is_reported(
    options: dict[str, str], content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_pruner.encoders.tasks import check_dataset

    monkeypatch.chdir(tmp_path)
    if "." in options["dataset"]:
        Path(options["dataset"]).write_text(content)
    else:
        Path("data.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        check_dataset(TaskOptions(**options))
        load_task(TaskOptions(**options))


def test_bad_models_are_reported(
    teacher: Path, task: TaskOptions, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    options = PruningOptions(**QUICK)
    with pytest.raises(CheckpointError, match="model_type 'llama' is not a supported classifier"):
        prune_classifier(make_model("llama"), tmp_path / "a", task, options)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        prune_classifier(tmp_path / "nowhere", tmp_path / "b", task, options)
    with pytest.raises(CheckpointError, match="reads 20 tokens, but length is 21; lower length"):
        prune_classifier(teacher / "model", tmp_path / "c", task.model_copy(update={"length": 21}), options)
    with pytest.raises(ConfigError, match="final_step 500 must lie"):
        prune_classifier(teacher / "model", tmp_path / "d", task, options.model_copy(update={"final_step": 500}))
    damaged = tmp_path / "damaged"
    model = load_classifier(teacher / "model")
    model.distilbert.transformer.layer[1].ffn.lin1.weight.data[2, 3] = math.nan
    save_classifier(model, load_encoder_tokenizer(teacher / "model", LENGTH), damaged)
    with pytest.raises(CheckpointError, match=r"layer.1.ffn.lin1.weight' holds NaN"):
        quantize_classifier(damaged, tmp_path / "e", QuantizationOptions())
    with pytest.raises(CheckpointError, match=r"training diverged|not finite"):
        wild = TeacherOptions(source=str(teacher / "model"), epochs=2, warmup=0)
        wild = wild.model_copy(update={"learning_rate": 1e30})
        train_teacher(tmp_path / "f", task, wild, device="cpu")
    assert not [path for name in "abcdef" for path in (tmp_path / name).rglob("*.safetensors") if "model" in path.parts]


@pytest.mark.parametrize("name", GLUE)
def test_glue_is_read_in_the_format_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the hub, with its columns and splits; hidden test labels are -1."""
    import datasets

    classes = ["entailment", "neutral", "contradiction"] if name == "mnli" else ["no", "yes"]
    kinds = {**dict.fromkeys(GLUE[name], datasets.Value("string")), "label": datasets.ClassLabel(names=classes)}

    def split(kind: str, rows: int) -> Any:
        texts = {column: [f"{kind} {column} {row}" for row in range(rows)] for column in GLUE[name]}
        labels = [-1 if kind.startswith("test") else row % len(classes) for row in range(rows)]
        return datasets.Dataset.from_dict({**texts, "label": labels}, features=datasets.Features(kinds))

    held_out = ("validation_matched", "validation_mismatched") if name == "mnli" else ("validation",)
    hub = {"train": split("train", 200), **{kind: split(kind, 20) for kind in held_out}, "test": split("test", 20)}
    monkeypatch.setattr(datasets, "load_dataset", lambda repository, subset: {"nyu-mll/glue": hub}[repository])
    task = load_task(TaskOptions(dataset=name, samples=100))
    assert task.labels == tuple(classes) and len(task.splits["train"]) == 100
    assert [example.text for example in task.splits["test"]] == [
        f"{held_out[0]} {GLUE[name][0]} {i}" for i in range(20)
    ]
    assert [example.label for example in task.splits["test"]] == [i % len(classes) for i in range(20)]
    assert 10 <= len(task.splits["validation"]) <= 30
    assert all(example.text.startswith("train") for example in task.splits["validation"])
    assert all((example.pair is None) == (len(GLUE[name]) == 1) for example in task.splits["train"])


# --- report ------------------------------------------------------------------------------------------------


def test_report_measures_good_runs_and_names_broken_ones(
    pruned: ClassifierRecord, teacher: Path, task: TaskOptions, tmp_path: Path
) -> None:
    quantize_classifier(tmp_path / "pruned" / "model", tmp_path / "ptq", QuantizationOptions(), seed=0)
    for name in ("broken", "missing"):
        (tmp_path / name).mkdir()
        pruned.model_copy(update={"name": name}).write(tmp_path / name / "record.json")
    (tmp_path / "broken" / "model").mkdir()
    (tmp_path / "broken" / "model" / "config.json").write_text((tmp_path / "ptq" / "model" / "config.json").read_text())
    (tmp_path / "broken" / "model" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert find_run(tmp_path, "Pruned") == tmp_path / "pruned"
    runs = [teacher, *(tmp_path / name for name in ("broken", "pruned", "missing", "ptq"))]
    report = final_report(runs, tmp_path / "final_report.json", task, repeats=2, device="cpu")
    FIGURES["final_report"].draw(report, tmp_path / "final_report.png")
    assert report == FinalReport.read(tmp_path / "final_report.json")
    assert [run.kind for run in report.runs] == ["Teacher", "Pruned", "PTQ"]
    assert [Path(problem.run).name for problem in report.problems] == ["broken", "missing"]
    examples = len(load_task(task).splits["test"])
    assert report.standard_error == pytest.approx(math.sqrt(0.5 * 0.5 / examples))
    sizes = [run.bytes_on_disk for run in report.runs]
    assert sizes == sorted(sizes, reverse=True)
    assert report.runs[1].parameters == report.runs[2].parameters < report.runs[0].parameters
    assert all(run.latency_ms > 0 and 0 < run.accuracy <= 1 for run in report.runs)
    assert (tmp_path / "final_report.png").read_bytes().startswith(b"\x89PNG")
    table = encoders_table(report).frame
    assert table["name"].tolist() == ["Teacher", "Pruned", "PTQ"] and "accuracy_spread" not in table
    assert encoder_runs_table(report).frame["problem"].notna().tolist() == [False] * 3 + [True] * 2
    with pytest.raises(PrunerError, match="no Student model"):
        find_run(tmp_path, "Student")


def measured(name: str, seed: int, folder: str, value: float = 1.0) -> MeasuredRun:
    """A run with the same value for all numbers."""
    return MeasuredRun(
        name=name,
        kind="Pruned",
        seed=seed,
        folder=folder,
        accuracy=value,
        f1=value,
        loss=value,
        validation=value,
        parameters=int(value),
        bytes_on_disk=int(value),
        memory_bytes=int(value),
        latency_ms=value,
        batch_ms=value,
        reached=None,
        training_seconds=value,
    )


def test_runs_of_equal_name_and_seed_are_named_by_folder() -> None:
    runs = [
        measured(name, seed, folder)
        for name, seed, folder in (("Pruned", 0, "a"), ("Pruned", 0, "b"), ("MSP", 0, "c"), ("MSP", 1, "d"))
    ]
    assert [run.name for run in with_distinct_names(runs)] == ["Pruned (a)", "Pruned (b)", "MSP", "MSP"]


def test_spread_over_seeds_by_hand() -> None:
    runs = [
        measured(name, seed, "a", value) for name, seed, value in (("a", 0, 1), ("b", 0, 5), ("a", 1, 2), ("a", 2, 6))
    ]
    first, second = by_name(runs)
    assert (first.name, first.seeds, first.mean.accuracy, first.mean.parameters) == ("a", (0, 1, 2), 3.0, 3.0)
    assert first.spread.accuracy == first.spread.bytes_on_disk == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert second.spread.accuracy is None
