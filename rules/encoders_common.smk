# Helpers of the classifiers' rules.
from llm_pruner.encoders.steps import STEPS as ENCODER_STEPS

ENCODERS = CONFIG.encoders
ENCODER_TRAINED = [*ENCODERS.pruned, *(row for row, step in ENCODERS.stepped.items() if step.trains)]


def encoder_runs(part, row="{row}"):
    """A file or folder for each seed of a row. One job makes all seeds, to save the start of further jobs."""
    return expand("encoders/{row}/seed_{seed}/{part}", row=row, seed=ENCODERS.seeds, part=part)


def encoder_step(row):
    """``module:Class`` of the row's last step."""
    return ENCODER_STEPS[row.rpartition("+")[2]]


def encoder_step_inputs(wildcards):
    """Inputs of the row's last step: models of the previous row; for a training, also teacher and data."""
    inputs = {"models": encoder_runs("model", wildcards.row.rpartition("+")[0])}
    if ENCODERS.stepped[wildcards.row].trains:
        inputs |= {"teacher": "encoders/Teacher/model", "data": encoder_data()}
    return inputs


def encoder_start(wildcards):
    """Models of the row that this row starts from; none if it starts from the teacher."""
    start = ENCODERS.row_options(wildcards.row).start
    return encoder_runs("model", start) if start else []


ENCODER_NEEDS = CONFIG.classifier_needs
encoder_memory, encoder_minutes = growing(ENCODER_NEEDS.memory_mb), growing(ENCODER_NEEDS.minutes)


def encoder_source():
    """Source files of the teacher: a local folder's files, or the folder of its package; none for other sources."""
    if ENCODERS.teacher.package:
        return package_folder(ENCODERS.teacher.package)
    folder = Path(ENCODERS.teacher.source)
    return sorted(map(str, folder.glob("*.*"))) if folder.is_dir() else []


def encoder_data():
    """Files of the task; none for named data sets."""
    task = ENCODERS.task
    return [path for path in (task.dataset, task.validation, task.test) if path and Path(path).is_file()]
