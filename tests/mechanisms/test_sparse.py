"""Methods that zero single weights against the official implementations, on the model those were run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.methods.base import LinearMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.planning.masks import Pattern
from llm_pruner.scoring.evidence import gather
from llm_pruner.variants.grammar import resolve
from tests.tiny import REFERENCE
from tests.tiny.making import make

MODEL, CALIBRATION = REFERENCE / "model", REFERENCE / "calibration.safetensors"
OFFICIAL: dict[str, Any] = json.loads((REFERENCE / "sparse.json").read_text())["methods"]
LINEARS = {name: tensor.shape for name, tensor in sorted(read_architecture(MODEL).linears().items())}


def official_masks(name: str) -> dict[str, torch.Tensor]:
    """By name of the parameter: bool [out_features, in_features], True where a weight was zeroed."""
    packed = load_file(REFERENCE / "sparse_masks.safetensors")[name].numpy()
    masks, start = {}, 0
    for parameter, (rows, columns) in LINEARS.items():
        end = start + rows * columns // 8
        bits = np.unpackbits(packed[start:end].reshape(rows, -1), axis=-1)
        masks[parameter] = torch.from_numpy(bits.astype(bool))
        start = end
    assert start == len(packed)
    return masks


def masks_of(folder: Path) -> dict[str, torch.Tensor]:
    pruned = load_file(folder / "model.safetensors")
    return {parameter: pruned[parameter] == 0 for parameter in LINEARS}


def share_of_other_bits(folder: Path, official: dict[str, torch.Tensor]) -> float:
    ours = masks_of(folder)
    other = sum(int((ours[parameter] != official[parameter]).sum()) for parameter in LINEARS)
    return other / sum(mask.numel() for mask in official.values())


def heldout_perplexity(folder: Path) -> float:
    return perplexity(load(folder), read_tokens(REFERENCE / "heldout.safetensors"), window=128).perplexity


@pytest.mark.parametrize(
    ("name", "options", "official"),
    [
        ("RIA_unstructured_5000", {"comparison": "row"}, "ria_50_perout"),
        ("RIA_2of4", {}, "ria_2of4"),
        ("GBLM_unstructured_5000", {}, "gblm_50"),
        ("PrunerZero_unstructured_5000", {}, "prunerzero_50"),
    ],
)
def test_official_masks(name: str, options: dict[str, Any], official: str, tmp_path: Path) -> None:
    make(name, options, MODEL, CALIBRATION, tmp_path)
    expected = OFFICIAL[official]
    # of gradients the official code keeps 16 bits
    bits = expected["tolerance"].get("mask_bits_share_with_fp32_gradients", expected["tolerance"]["mask_bits_share"])
    assert share_of_other_bits(tmp_path / "model", official_masks(official)) <= bits
    tolerance = expected["tolerance"]["perplexity_relative"]
    assert heldout_perplexity(tmp_path / "model") == pytest.approx(expected["heldout_perplexity"], rel=tolerance)


def test_ria_over_whole_matrices_on_what_the_official_masks_make() -> None:
    """The official threshold takes one weight more in every matrix, which later layers notice."""
    variant = resolve("RIA_unstructured_5000")
    method, official = variant.build_method(), official_masks("ria_50")
    assert isinstance(method, LinearMethod)
    for layer in gather(method.evidence, MODEL, read_tokens(CALIBRATION)):
        for weight, evidence in layer.linears():
            theirs = official[f"model.layers.{layer.index}.{evidence.linear}.weight"]
            ours, kept = method.solve(weight, evidence, Pattern(0.5))
            assert kept is weight
            assert not (ours & ~theirs).any()
            assert (theirs & ~ours).sum() == 1
            weight.masked_fill_(theirs, 0)
        layer.changed()
