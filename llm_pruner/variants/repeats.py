"""Repeats of a variant, calibrated on other samples, which show how much chance changes a result.

``Wanda_2000@1`` is ``Wanda_2000`` with the samples of calibration seed 1; ``GQA_2000@1+nf4`` is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llm_pruner.variants.variant import DENSE, ScoreSpec, Variant

AT = "@"
"""Separates a name and its calibration seed; no name in a configuration can contain it."""


def repeat_name(name: str, seed: int) -> str:
    """The name of a variant, or of scores, when calibrated with another seed.

    >>> repeat_name("GQA_2000+nf4", 1)
    'GQA_2000@1+nf4'
    """
    root, plus, steps = name.partition("+")
    return f"{root}{AT}{seed}{plus}{steps}"


def split_repeat(name: str) -> tuple[str, int | None]:
    """Split a name into the name without its calibration seed, and the seed, or None.

    >>> split_repeat("GQA_2000@1+nf4"), split_repeat("GQA_2000")
    (('GQA_2000+nf4', 1), ('GQA_2000', None))
    """
    root, plus, steps = name.partition("+")
    original, at, seed = root.partition(AT)
    return (f"{original}{plus}{steps}", int(seed)) if at and seed.isdecimal() else (name, None)


def repeats(variants: Mapping[str, Variant], seeds: Sequence[int]) -> dict[str, Variant]:
    """Repeats, by name, of every variant that depends on calibration samples, one for each seed.

    Args:
        variants: variants by name, their ancestors included.
        seeds: seeds of further draws, without the seed of ``variants`` themselves.
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
