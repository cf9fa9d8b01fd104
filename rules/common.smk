# The configuration, and functions shared by all rules. Parsing imports neither torch nor transformers.
import os
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from llm_pruner.workflow import locks, resources, snakemake_private
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.config_files import located
from llm_pruner.data.sources import is_file, split_for
from llm_pruner.system.errors import ConfigError, PrunerError
from llm_pruner.system.provenance import sha256
from llm_pruner.system.registry import module_of
from llm_pruner.mechanisms import job_modules
from llm_pruner.mechanisms.width.options import SEARCH
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.workflow.names import clash_problems
from llm_pruner.workflow.fingerprint import sources_digest
from llm_pruner.workflow.folders import refuse_hollow
from llm_pruner.models.packages import ENCODERS as PRETRAINED_ENCODERS, MODELS
from llm_pruner.models.sources import gguf_path
from llm_pruner.report.figures import FIGURES, RECORDS, RUN
from llm_pruner.report.page.files import page_files
from llm_pruner.workflow.preflight import preflight
from llm_pruner.steps.base import step_class
from llm_pruner.variants.variant import DENSE
from llm_pruner.variants.repeats import AT, repeats, split_repeat

for name, value in resources.ENVIRONMENT.items():
    os.environ.setdefault(name, value)

ROOT = Path(workflow.basedir)
CONFIG_NAME = ", ".join(snakemake_private.config_files(workflow)) or "config"


def show_results():
    """Print the results of a run that makes tables; print nothing after a smaller or a quiet run."""
    rules_run = snakemake_private.rules_of_run(workflow)
    if not snakemake_private.shows_results(workflow) or not rules_run & {"summary", "encoder_report"}:
        return
    from rich.console import Console

    from llm_pruner.encoders.records.report import FinalReport
    from llm_pruner.report.encoders import encoders_table
    from llm_pruner.report.table import read_results
    from llm_pruner.report.terminal import show_run

    results = read_results([f"baselines/{name}" for name in MODELS_MADE]) if "summary" in rules_run else None
    classifiers = [encoders_table(FinalReport.read(FinalReport.file))] if "encoder_report" in rules_run else []
    show_run(results, Console(highlight=False), more=classifiers)


def display(stream):
    """The handler that shows a run on the terminal instead of Snakemake's own."""
    from llm_pruner.workflow.display import Display

    return Display(stream, nothing_to_do=show_results)


if workflow.is_main_process:
    snakemake_private.replace_terminal_output(workflow, display)

try:
    CONFIG, VARIANTS = load_config(config, CONFIG_NAME)
    if workflow.is_main_process:
        preflight(CONFIG, VARIANTS.values(), CONFIG_NAME)
except ConfigError as error:
    raise WorkflowError(str(ConfigError(located(error.problems, CONFIG_PLACES), CONFIG_NAME))) from None
except PrunerError as error:
    raise WorkflowError(str(error)) from None

if not CONFIG.needs_hub:
    # no job may wait for a network that this run does not need
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPEATS = repeats(VARIANTS, CONFIG.calibration.further_seeds)
MODELS_MADE = VARIANTS | REPEATS
if clash := clash_problems("scores", (score.name for variant in MODELS_MADE.values() for score in variant.scores)):
    raise WorkflowError(str(ConfigError(clash, CONFIG_NAME)))
SCORES = {score.name: score for variant in MODELS_MADE.values() for score in variant.scores}
PLANNED = [name for name, variant in MODELS_MADE.items() if variant.score]
DIRECT = [name for name, variant in MODELS_MADE.items() if not (variant.score or variant.step)]
SEARCHED = [name for name in PLANNED if MODELS_MADE[name].options.get("split") == SEARCH]


def one_of(names):
    """A wildcard's pattern for exactly these names, which may contain plus signs."""
    return "|".join(map(re.escape, names)) or "none"


wildcard_constraints:
    variant=one_of(MODELS_MADE),
    score=one_of(SCORES),


def code(script, *modules):
    """Digest of a job's sources, for its params: an edit of the sources reruns the job."""
    return sources_digest(ROOT / "workflow_scripts" / script, *modules)


@cache
def method_code(script, implementation, *job):
    """Digest of the sources of a job that runs a method, including the mechanism's modules ``job``."""
    modules = [module_of(implementation), *job]
    if not modules[0].startswith("llm_pruner."):
        modules.append("llm_pruner.objects.pruners")
    return code(script, *modules)


def all_cores():
    """All cores of this run, for a job that measures time and must run alone."""
    return snakemake_private.cores(workflow)


# the run decides once, and an environment variable tells its jobs, also on other nodes
if workflow.is_main_process:
    cluster, limit = snakemake_private.on_cluster(workflow), snakemake_private.gpu_limit(workflow)
    os.environ["LLM_PRUNER_GPUS"] = str(int(resources.uses_gpus(CONFIG.model.device, limit, cluster)))


envvars:
    "LLM_PRUNER_GPUS",


def gpus(count=1):
    """GPUs that a job requests: ``count``, or 0 if the run has none."""
    return count * int(os.environ["LLM_PRUNER_GPUS"])


def growing(needed):
    """A resource that grows with each attempt: ``needed`` times the number of the attempt."""
    return lambda wildcards, attempt: needed * attempt


NEEDS = CONFIG.needs
memory_mb, minutes = growing(NEEDS.memory_mb), growing(NEEDS.minutes)

RUN_LOCK = []


def hold_folder():
    """Hold the run's folder from here to the end of the process, once the jobs of a killed run have ended."""
    if RUN_LOCK:
        return
    try:
        RUN_LOCK.append(locks.hold_run())
        locks.wait_for_left_over_jobs(logger.info)
        refuse_hollow(map(Path, MODEL_FOLDERS), map(Path, packages_used()))
    except PrunerError as error:
        raise WorkflowError(str(error)) from None


if workflow.is_main_process:
    snakemake_private.before_writing(workflow, hold_folder)
    if not os.access(os.curdir, os.W_OK):
        snakemake_private.look_without_writing(locks.STATE)


def scores_file(score):
    """The scores file; an empty list without scores."""
    return f"resources/scores/{score.name}.json" if score else []


def plan_file(variant):
    """The plan of a variant, or of the variant that its steps began with."""
    root = MODELS_MADE[variant].root
    return f"baselines/{root}/plan.json" if root in PLANNED else []


MEASURED_FILES = dict(
    records="baselines/{variant}/pruning.json",
    comparisons="baselines/{variant}/analysis/model_comparison.json",
    perplexity="baselines/{variant}/evaluation/perplexity.json",
    zero_shot="baselines/{variant}/evaluation/zero_shot.json",
    efficiency="baselines/{variant}/evaluation/efficiency.json",
)
MEASURED = {role: expand(file, variant=VARIANTS) for role, file in MEASURED_FILES.items()}
# measurements of repeats, which are calibrated on other samples; speed and structure do not depend on the samples
MEASURED_AGAIN = dict(
    again=expand(MEASURED_FILES["records"], variant=REPEATS),
    measured_again=expand([MEASURED_FILES["perplexity"], MEASURED_FILES["zero_shot"]], variant=REPEATS),
)


def calibration_text(samples, skip=0, seed=CONFIG.calibration.first_seed):
    """Parameters of a draw from the calibration source."""
    text = CONFIG.calibration
    split = split_for(text.source, text.split, "calibration")
    return dict(source=text.source, split=split, samples=samples, length=text.length, seed=seed, skip=skip)


def calibration_file(name):
    """The calibration samples of a variant, or of scores, by name."""
    _, seed = split_repeat(name)
    return "resources/calibration.safetensors" if seed is None else f"resources/calibration{AT}{seed}.safetensors"


def samples_wanted(wildcards):
    """The calibration samples that a pruning job itself reads."""
    return calibration_file(wildcards.variant) if MODELS_MADE[wildcards.variant].samples_wanted else []


def text_file(text):
    """A text or token file as a job's input; an empty list for a named source."""
    return text.source if is_file(text.source) else []


PACKAGES = {**MODELS, **PRETRAINED_ENCODERS}


def package_folder(name):
    """The folder of a packaged model; None for other models."""
    return f"resources/packages/{name}" if name else None


def timed_beside(wildcards):
    """The base model, timed in turn with a variant; none for the base itself."""
    return "resources/model" if CONFIG.efficiency.beside_base and wildcards.variant != DENSE else []


STEPPED = {name: step_class(variant.step.implementation) for name, variant in MODELS_MADE.items() if variant.step}
TRAINED = [name for name, step in STEPPED.items() if name in VARIANTS and "healing" in step.needs]
STEP_FILES = {
    "base": "resources/model",
    "calibration": "resources/calibration.safetensors",
    "healing": "resources/healing.safetensors",
    "held_out": "resources/held_out.safetensors",
}


def step_inputs(wildcards):
    """The parent model of a step, and further files that the step reads."""
    parent = f"baselines/{MODELS_MADE[wildcards.variant].parent}"
    needed = {need: STEP_FILES[need] for need in STEPPED[wildcards.variant].needs}
    return {"parent": f"{parent}/model", "record": f"{parent}/pruning.json", **needed}


def step_code(wildcards):
    return code("step.py", module_of(MODELS_MADE[wildcards.variant].step.implementation))
