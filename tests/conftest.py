"""Small random models of every family, and the official implementations' outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# one thread for each worker, and for the processes it starts: models this small gain nothing from two, and those
# that wait spin on a core that the other worker needs
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from safetensors.torch import load_file

if TYPE_CHECKING:
    from llm_pruner.variants.records import PruningRecord

REFERENCE = Path(__file__).parent / "fixtures" / "reference"
VOCABULARY = 97
WORDS = ["the", "of", "a", "is", "to", "and", "in", "that", *(f"w{index}" for index in range(80))]
"""Known to the tokenizer, from id 3 on."""

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# what sets the families apart: biases, head_dim apart from hidden/heads, sliding windows, q/k norms, tied embeddings
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 6, "attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 4, "sliding_window": 8},
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
}
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def build_model(family: str, **overrides: Any) -> Any:
    """A random model with weights large enough that every unit changes the output."""
    import transformers

    config_class = getattr(transformers, f"{CLASSES[family]}Config")
    model_class = getattr(transformers, f"{CLASSES[family]}ForCausalLM")
    model = model_class(config_class(**{**SHAPE, **FAMILIES[family], **overrides})).eval()
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        mean = 1.0 if "norm" in name else 0.0
        parameter.data.normal_(mean, 0.15, generator=generator)
    return model


def make(name: str, options: dict[str, Any], base: Path, calibration: Path, output: Path) -> PruningRecord:
    """Score, where the method scores, and prune; gives the record of the pruning."""
    from llm_pruner.variants.grammar import resolve
    from llm_pruner.variants.make import prune
    from llm_pruner.variants.score import compute_scores

    variant = resolve(name, options)
    files = {}
    for role, score in (("scores", variant.score), ("importance", variant.importance)):
        if score:
            files[role] = output / f"{role}.json"
            compute_scores(score, base, calibration, files[role], device="cpu")
    return prune(variant, base, output, calibration=calibration, device="cpu", **files)


def label(name: str, options: Mapping[str, Any]) -> str:
    """A folder's name for what is made with these options."""
    return "-".join([name, *(f"{key}={value}" for key, value in sorted(options.items()))])


FOREIGN = """
import os, sys
import torch
from safetensors.torch import load_file, save_file
import transformers
what, result = sys.argv[2:4]
tokens = load_file(sys.argv[1])["input_ids"]
for number, (folder, trust) in enumerate(zip(sys.argv[4::2], sys.argv[5::2])):
    if os.fork():
        assert os.wait()[1] == 0, folder
        continue
    model = getattr(transformers, what).from_pretrained(folder, trust_remote_code=trust == "True")
    assert not any(name.startswith("llm_pruner") for name in sys.modules)
    with torch.inference_mode():
        save_file({result: model(tokens)[result].clone()}, f"{number}.safetensors")
    os._exit(0)
"""


def foreign_logits(folders: Mapping[Path, bool], token_file: Path, room: Path) -> dict[Path, torch.Tensor]:
    """What models compute in a process that has transformers and not this package, of its own for each of them.

    Args:
        folders: models, and whether their own code may run.
        room: an empty folder to work in.
    """
    return _foreign("AutoModelForCausalLM", "logits", folders, token_file, room)


def foreign_states(folders: Iterable[Path], token_file: Path, room: Path) -> dict[Path, torch.Tensor]:
    """What models without output weights compute in such a process, which runs their own code."""
    return _foreign("AutoModel", "last_hidden_state", dict.fromkeys(folders, True), token_file, room)


def _foreign(
    loader: str, result: str, folders: Mapping[Path, bool], token_file: Path, room: Path
) -> dict[Path, torch.Tensor]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(room / "home"), "HF_HUB_OFFLINE": "1"}
    given = [str(part) for pair in folders.items() for part in pair]
    room.mkdir()
    command = [sys.executable, "-P", "-c", FOREIGN, token_file, loader, result, *given]
    subprocess.run(command, check=True, cwd=room, env=environment)
    return {folder: load_file(room / f"{number}.safetensors")[result] for number, folder in enumerate(folders)}


def project_out(model: Any, tokens: torch.Tensor, widths: list[int]) -> Any:
    """The dense model with all but ``widths`` principal components projected out at every position, nothing rotated.

    Brute force: each position's components come from a forward pass of the whole model with all positions before it
    projected.
    """
    projections: list[Any] = []
    states: list[torch.Tensor] = []

    def at(position: int, hidden: torch.Tensor) -> torch.Tensor:
        if position < len(projections):
            return hidden @ projections[position]
        if position == len(projections):
            states.append(hidden)
        return hidden

    def forward(index: int, layer: Any, hidden: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        hidden = at(2 * index, hidden)
        hidden = hidden + layer.self_attn(hidden_states=layer.input_layernorm(hidden), **kwargs)[0]
        hidden = at(2 * index + 1, hidden)
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))

    for index, layer in enumerate(model.model.layers):
        layer.forward = partial(forward, index, layer)
    for width in widths[:-1]:
        states.clear()
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=False)
            seen = states[0].flatten(0, 1).double()
            components = torch.linalg.svd(seen, full_matrices=True).Vh[:width]
            projections.append((components.mT @ components).to(states[0].dtype))
    return model


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a random model of a family; the same arguments give the same folder."""
    root = tmp_path_factory.mktemp("models")

    def make(family: str = "llama", **overrides: Any) -> Path:
        folder = root / label(family, overrides)
        if not folder.exists():
            build_model(family, **overrides).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token a word or sign, most of them unknown; no special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, **{word: 3 + i for i, word in enumerate(WORDS)}}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", model_max_length=16)


def random_tokens() -> torch.Tensor:
    """int64 [6, 20], longer than the sliding windows above."""
    return torch.randint(3, VOCABULARY, (6, 20), generator=torch.Generator().manual_seed(1))


def write_random_tokens(folder: Path) -> Path:
    from llm_pruner.data.tokens import write_tokens

    path = folder / "calibration.safetensors"
    write_tokens(path, random_tokens(), {})
    return path


@pytest.fixture
def tokens() -> torch.Tensor:
    return random_tokens()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return write_random_tokens(tmp_path)


@pytest.fixture(scope="session")
def make_parent(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Prunes a model on the random tokens, for what follows pruning; the same arguments give the same folder."""
    root = tmp_path_factory.mktemp("parents")
    token_file = write_random_tokens(root)

    def make_parent(name: str, options: dict[str, Any], base: Path) -> Path:
        folder = root / base.name / label(name, options)
        if not folder.exists():
            make(name, options, base, token_file, folder)
        return folder

    return make_parent


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    return json.loads((REFERENCE / "reference.json").read_text())
