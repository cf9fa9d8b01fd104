"""Calibration seeds: what is made once more, of which samples, and what stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from llm_pruner.system.errors import ConfigError
from llm_pruner.variants.repeats import repeats, split_repeat
from llm_pruner.workflow.config import load_config

ROWS = ["Random_2000", "Magnitude_2000", "Wanda_2of4", "GQA_2000", "GQA_2000+nf4", "Dense+nf4"]


def loaded(seeds: Any, **calibration: Any) -> Any:
    return load_config({"variants": ROWS, "calibration": {"seeds": seeds, **calibration}})


def test_what_looks_at_samples_is_made_once_more_with_each_further_seed() -> None:
    config, variants = loaded([0, 3, 7])
    found = repeats(variants, config.calibration.further_seeds)
    assert list(found) == [
        f"{name}" for seed in (3, 7) for name in (f"Wanda_2of4@{seed}", f"GQA_2000@{seed}", f"GQA_2000@{seed}+nf4")
    ]
    assert found["GQA_2000@3"].score.name == "GQA@3" and found["GQA_2000@3"].parent == "Dense"
    assert found["GQA_2000@3+nf4"].parent == "GQA_2000@3" and found["GQA_2000@3+nf4"].root == "GQA_2000@3"
    assert found["Wanda_2of4@3"].score is None


def test_importance_that_looks_at_samples_is_measured_again() -> None:
    """Magnitude itself looks at none, but the layers that it spares are chosen by samples."""
    raw = {"variants": [{"Magnitude_2000": {"allocation": "inverse", "importance": "ShortGPT"}}]}
    _, variants = load_config(raw)
    again = repeats(variants, [1])["Magnitude_2000@1"]
    assert again.importance.name == "ShortGPT@1" and again.score.name == "Magnitude"


def test_rows_of_the_first_seed_are_what_they_are_without_others() -> None:
    """So nothing is made anew when further seeds are asked for."""
    assert loaded([0, 1])[1] == loaded(None)[1]
    assert loaded([5, 1])[0].calibration.first_seed == 5 == loaded(None, seed=5)[0].calibration.first_seed


@pytest.mark.parametrize(
    ("seeds", "more", "message"),
    [
        ([0, 1, 0], {}, r"calibration\.seeds: .*0 is listed twice"),
        (["many"], {}, r"calibration\.seeds"),
        ([-1], {}, r"calibration\.seeds"),
        ([], {}, r"calibration\.seeds"),
        ([1, 2], {"seed": 0}, "seed is 0, but the first of seeds is 1"),
    ],
)
def test_wrong_seeds(seeds: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(seeds, **more)


def test_names() -> None:
    assert split_repeat("GQA_2000@12+nf4") == ("GQA_2000+nf4", 12)
    with pytest.raises(ConfigError, match="not a variant name"):
        load_config({"variants": ["GQA_2000@1"]})
