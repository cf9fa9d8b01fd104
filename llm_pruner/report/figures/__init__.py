"""The figures of a run, by name. To add a figure, add a file here, a line below and a caption in ``report/``.

The module of a figure has ``draw(subject, path)``, which writes a PNG. The subject is ``Results`` for a figure of the
whole run, else a job's record, read from its JSON file. Jobs that train, score, search or prune draw nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN = "run"
"""Subject of a figure that is drawn from all results of a run."""
RECORDS = {
    "base": "resources/model.json",
    "healed": "baselines/{variant}/step.json",
    "searched": "resources/search/{variant}.json",
    "teacher": "encoders/Teacher/record.json",
    "classifier": "encoders/{row}/seed_{seed}/record.json",
    "classifiers": "results/final_report.json",
}
"""Other subjects of figures, with the record of each."""


@dataclass(frozen=True)
class FigureFile:
    """A figure: its module, its subject, and its place in a run and in Snakemake's report."""

    file: str
    """Name of a module in this package."""
    shows: str
    """Subject: ``RUN``, or a key of ``RECORDS``."""
    output: str
    """Path of the PNG, with the record's wildcards."""
    caption: str
    """Name of a file in ``report/``."""
    category: str
    label: str
    needs_scores: bool = False
    """Whether the figure is empty without ``Results.scores``."""

    @property
    def module(self) -> str:
        """Dotted name of the module."""
        return f"{__name__}.{self.file}"

    def draw(self, subject: Any, path: Path) -> None:
        """Draw ``subject`` as a PNG."""
        from llm_pruner.report.canvas import draw_with  # not in every environment that reads the list of figures

        draw_with(self.module, subject, path)


FIGURES: dict[str, FigureFile] = {
    "quality_against_size": FigureFile(
        "quality_against_size",
        RUN,
        "results/figures/quality_against_size.png",
        "quality",
        "Comparison",
        "Perplexity against size",
    ),
    "accuracy_against_size": FigureFile(
        "accuracy_against_size",
        RUN,
        "results/figures/accuracy_against_size.png",
        "quality",
        "Comparison",
        "Zero-shot accuracy against size",
    ),
    "divergence": FigureFile(
        "divergence", RUN, "results/figures/divergence.png", "divergence", "Comparison", "Divergence from the base"
    ),
    "layer_reduction": FigureFile(
        "layer_reduction",
        RUN,
        "results/figures/layer_reduction.png",
        "reduction",
        "Comparison",
        "Reduction of each layer",
    ),
    "layer_scores": FigureFile(
        "layer_scores",
        RUN,
        "results/figures/layer_scores.png",
        "layer_scores",
        "Comparison",
        "Scores by layer",
        needs_scores=True,
    ),
    "layer_rates": FigureFile(
        "layer_rates",
        RUN,
        "results/figures/layer_rates.png",
        "layer_rates",
        "Decisions",
        "Importance and rate by layer",
    ),
    "training": FigureFile(
        "training", "base", "results/figures/training.png", "training", "Base model", "Training loss"
    ),
    "healing": FigureFile(
        "healing", "healed", "results/figures/healing_{variant}.png", "healing", "Healing", "Loss of {variant}"
    ),
    "split_search": FigureFile(
        "split_search",
        "searched",
        "results/figures/split_search_{variant}.png",
        "search",
        "Decisions",
        "Attention : MLP split of {variant}",
    ),
    "teacher_curves": FigureFile(
        "classifier_curves",
        "teacher",
        "encoders/Teacher/curves.png",
        "encoder_curves",
        "Classifiers",
        "Training of the teacher",
    ),
    "classifier_curves": FigureFile(
        "classifier_curves",
        "classifier",
        "encoders/{row}/seed_{seed}/curves.png",
        "encoder_curves",
        "Classifiers",
        "Training of {row}",
    ),
    "final_report": FigureFile(
        "final_report",
        "classifiers",
        "results/final_report.png",
        "encoders",
        "Classifiers",
        "Accuracy against size and latency",
    ),
}
