"""The same variant once more, calibrated on other samples: how much of a number is the luck of the draw.

``Wanda_2000@1`` is ``Wanda_2000`` with the samples of calibration seed 1; ``GQA_2000@1+nf4`` is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llm_pruner.variants.variant import DENSE, ScoreSpec, Variant

AT = "@"
"""Stands between a name and the calibration seed; no name in a configuration can hold it."""


def repeat_name(name: str, seed: int) -> str:
    """What a variant, or its scores, are called when calibrated with another seed.

    >>> repeat_name("GQA_2000+nf4", 1)
    'GQA_2000@1+nf4'
    """
    root, plus, steps = name.partition("+")
    return f"{root}{AT}{seed}{plus}{steps}"


def split_repeat(name: str) -> tuple[str, int | None]:
    """A name without its calibration seed, and the seed; None for what has none.

    >>> split_repeat("GQA_2000@1+nf4"), split_repeat("GQA_2000")
    (('GQA_2000+nf4', 1), ('GQA_2000', None))
    """
    root, plus, steps = name.partition("+")
    original, at, seed = root.partition(AT)
    return (f"{original}{plus}{steps}", int(seed)) if at and seed.isdecimal() else (name, None)


def repeats(variants: Mapping[str, Variant], seeds: Sequence[int]) -> dict[str, Variant]:
    """Every variant that calibration samples decide, once more with each seed, by its name.

    Args:
        variants: by name, with all that they are made from.
        seeds: of further draws, beside the one that ``variants`` themselves are of.
    """
    found = {}
    for seed in seeds:
        for variant in variants.values():
            if not _is_calibrated(variants[variant.root]):
                continue
            again = replace(
                variant,
                name=repeat_name(variant.name, seed),
                parent=repeat_name(variant.parent or DENSE, seed) if variant.step else variant.parent,
                score=_again(variant.score, seed),
                importance=_again(variant.importance, seed),
            )
            found[again.name] = again
    return found


def _is_calibrated(variant: Variant) -> bool:
    return variant.calibrated or variant.repaired or any(score.calibrated for score in variant.scores)


def _again(score: ScoreSpec | None, seed: int) -> ScoreSpec | None:
    return replace(score, name=repeat_name(score.name, seed)) if score and score.calibrated else score
