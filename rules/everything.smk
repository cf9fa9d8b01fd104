# Everything that a run makes, asked for by name: a deleted file or folder is made again, though nothing else lacks it.
# (Snakemake makes an input again only if its job runs anyway.)


def texts_drawn():
    """Token files that some job of the run reads."""
    looking = [score.name for score in SCORES.values() if score.calibrated]
    looking += [name for name, variant in MODELS_MADE.items() if variant.samples_wanted and not variant.step]
    drawn = {calibration_file(name) for name in looking}
    needs = {need for step in STEPPED.values() for need in step.needs}
    drawn |= {STEP_FILES[need] for need in needs} - {STEP_FILES["base"]}
    if SEARCHED or REPEATS or "healing" in needs:
        drawn.add(STEP_FILES["held_out"])
    return sorted({"resources/evaluation.safetensors", *drawn})


def packages_used():
    """Folders of the packaged models that the run links to or reads."""
    names = [CONFIG.model.source if CONFIG.model.kind == "package" else None]
    names += [ENCODERS.teacher.package if ENCODERS.rows else None]
    return [package_folder(name) for name in names if name]


CLASSIFIERS = (
    [
        *rules.encoder_teacher.output,
        *(path for row in ENCODERS.rows for part in ("model", "record.json") for path in encoder_runs(part, row)),
        *rules.encoder_report.output,
        *(FIGURE_FILES[name] for name, figure in FIGURES.items() if figure.category == "Classifiers"),
    ]
    if ENCODERS.rows
    else []
)
MODEL_FOLDERS = ["resources/model", *(f"baselines/{name}/model" for name in MODELS_MADE)]
EVERYTHING = [
    *packages_used(),
    *(rules.train_builtin if CONFIG.model.kind == "builtin" else rules.prepare_model).output,
    *rules.analyze_base.output,
    *(rules.builtin_tasks.output if CONFIG.makes_tasks else []),
    *texts_drawn(),
    *rules.base_predictions.output,
    expand(rules.score.output, score=SCORES),
    expand(rules.search.output, variant=SEARCHED),
    expand(rules.prune.output, variant=PLANNED),
    expand(rules.prune_directly.output, variant=DIRECT),
    expand(rules.step.output, variant=STEPPED),
    expand(rules.analyze.output, variant=VARIANTS),
    expand(rules.evaluate.output, variant=MODELS_MADE),
    expand(rules.efficiency.output, variant=VARIANTS),
    *CLASSIFIERS,
    *FIGURE_FILES.values(),
    *rules.summary.output,
    *rules.page.output,
]
