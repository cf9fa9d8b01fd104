# What the rules of the classifiers share.
from llm_pruner.encoders.steps import STEPS as ENCODER_STEPS

ENCODERS = CONFIG.encoders
ENCODER_TRAINED = [*ENCODERS.pruned, *(row for row, step in ENCODERS.stepped.items() if step.trains)]


def encoder_runs(part, row="{row}"):
    """A file or folder of every seed of a row; a row's seeds are made by one job, as starting one takes longer."""
    return expand("encoders/{row}/seed_{seed}/{part}", row=row, seed=ENCODERS.seeds, part=part)


def encoder_step(row):
    """``module:Class`` of a row's last step."""
    return ENCODER_STEPS[row.rpartition("+")[2]]


def encoder_step_inputs(wildcards):
    """What a row is made from by its last step, and what a training reads besides."""
    inputs = {"models": encoder_runs("model", wildcards.row.rpartition("+")[0])}
    if ENCODERS.stepped[wildcards.row].trains:
        inputs |= {"teacher": "encoders/Teacher/model", "data": encoder_data()}
    return inputs


def encoder_start(wildcards):
    """The row that a row starts from, if it is not the teacher."""
    start = ENCODERS.row_options(wildcards.row).start
    return encoder_runs("model", start) if start else []


ENCODER_NEEDS = CONFIG.classifier_needs
encoder_memory, encoder_minutes = growing(ENCODER_NEEDS.memory_mb), growing(ENCODER_NEEDS.minutes)


def encoder_source():
    """The files of a teacher in a folder, or the folder that its package is fetched into."""
    if ENCODERS.teacher.package:
        return package_folder(ENCODERS.teacher.package)
    folder = Path(ENCODERS.teacher.source)
    return sorted(map(str, folder.glob("*.*"))) if folder.is_dir() else []


def encoder_data():
    """Files that are read; named data sets are none."""
    task = ENCODERS.task
    return [path for path in (task.dataset, task.validation, task.test) if path and Path(path).is_file()]
