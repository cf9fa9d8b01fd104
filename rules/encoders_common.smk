# What the rules of the classifiers share.
ENCODERS = CONFIG.encoders
ENCODER_RUNS = [
    *ENCODERS.rows,
    *(f"{row}+ptq" for row in ENCODERS.ptq),
    *(f"{row}+qkd" for row in ENCODERS.qkd),
]


def encoder_runs(part, row="{row}"):
    """A file or folder of every seed of a row; a row's seeds are made by one job, as starting one takes longer."""
    return expand("encoders/{row}/seed_{seed}/{part}", row=row, seed=ENCODERS.seeds, part=part)


def encoder_row(wildcards):
    """What a quantised row is made from."""
    return encoder_runs("model", wildcards.row.rpartition("+")[0])


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
