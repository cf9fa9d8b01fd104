# Reads the configuration, and what every rule shares. Parsing imports neither torch nor transformers.
import fcntl
import os
import re
import shutil
import subprocess
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from llm_pruner.workflow.config import load_config
from llm_pruner.data.sources import is_file, split_for
from llm_pruner.system.device import visible_gpus
from llm_pruner.system.errors import PrunerError
from llm_pruner.families import family_module
from llm_pruner.families.options import SEARCH
from llm_pruner.workflow.fingerprint import sources_digest
from llm_pruner.models.packages import ENCODERS as PRETRAINED_ENCODERS, MODELS
from llm_pruner.models.sources import gguf_path
from llm_pruner.workflow.preflight import preflight
from llm_pruner.steps.base import step_class

# Idle OpenMP threads that spin make everything slower by an order when jobs share cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# glibc maps every large tensor anew and has the kernel clear it page by page, which takes a tenth of a job's time; up
# to these sizes (one window's logits) it keeps and reuses what was freed.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**27))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**29))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

ROOT = Path(workflow.basedir)
CONFIG_NAME = ", ".join(map(str, workflow.overwrite_configfiles or workflow.configfiles)) or "config"

try:
    CONFIG, VARIANTS = load_config(config, CONFIG_NAME)
    if workflow.is_main_process:
        preflight(CONFIG, VARIANTS.values(), CONFIG_NAME)
except PrunerError as error:
    raise WorkflowError(str(error)) from None

if not CONFIG.needs_hub:
    # nothing may wait for a network that nothing needs
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

SCORES = {score.name: score for variant in VARIANTS.values() for score in variant.scores}
PLANNED = [name for name, variant in VARIANTS.items() if variant.score]
DIRECT = [name for name, variant in VARIANTS.items() if not (variant.score or variant.step)]
SEARCHED = [name for name in PLANNED if VARIANTS[name].options.get("split") == SEARCH]


def one_of(names):
    """A wildcard that takes these names and no other; names hold plus signs."""
    return "|".join(map(re.escape, names)) or "none"


wildcard_constraints:
    variant=one_of(VARIANTS),
    score=one_of(SCORES),


def code(script, *modules):
    """Digest of the sources a job runs; in params, so that editing them reruns it."""
    return sources_digest(ROOT / "workflow_scripts" / script, *modules)


@cache
def method_code(script, implementation, family):
    modules = [implementation.partition(":")[0], family_module(family)]
    if not modules[0].startswith("llm_pruner."):
        modules.append("llm_pruner.pruners")
    return code(script, *modules)


def torch_threads():
    """Jobs on a small model are short: many side by side with one thread each beat few with many."""
    return CONFIG.job_needs.threads


def all_cores():
    """Every core of this run; on a cluster, where a run has none of its own, the profile says."""
    return workflow.global_resources["_cores"].value or 1


def on_cluster():
    """Whether jobs are submitted elsewhere: such a run limits jobs, one on this machine limits cores."""
    return workflow.global_resources["_nodes"].value is not None


def uses_gpus():
    """Whether jobs that can use a GPU ask for one, told without torch.

    The resource ``gpu`` of the profile is how many a run may hold at once. On a cluster that decides, because the
    machine that submits says nothing of those that compute; on one machine there has to be a GPU besides.
    """
    if workflow.global_resources.get("gpu").value == 0:
        return False
    if CONFIG.model.device == "auto":
        return on_cluster() or bool(visible_gpus())
    return CONFIG.model.device.startswith("cuda")


# decided by the run, told to its jobs wherever they are
if workflow.is_main_process:
    os.environ["LLM_PRUNER_GPUS"] = str(int(uses_gpus()))


envvars:
    "LLM_PRUNER_GPUS",


def gpus(count=1):
    """How many GPUs a job asks for that can use so many."""
    return count * int(os.environ["LLM_PRUNER_GPUS"])


def memory_mb(wildcards, attempt):
    return CONFIG.job_needs.memory_mb * attempt


def minutes(wildcards, attempt):
    return CONFIG.job_needs.minutes * attempt


def clear_stale_lock(folder=Path(".snakemake")):
    """Let a run start after one that was killed.

    Snakemake's lock is files, which outlive a killed process; a lock of the kernel does not. Whoever holds the
    latter knows that the former are left over.
    """
    folder.mkdir(exist_ok=True)
    handle = (folder / "llm_pruner.lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    shutil.rmtree(folder / "locks", ignore_errors=True)
    return handle


def wait_for_left_over_jobs(seconds=5):
    """Let jobs end that a killed run left in the queue of SLURM; they would write what this run makes again.

    Only for who holds the run's lock: then the jobs that log into this folder are nobody's.
    """
    if shutil.which("squeue") is None:
        return
    queue = ["squeue", "--noheader", f"--user={os.getuid()}", "--Format=JobID: ,STDOUT: "]
    logs = f"{Path('.snakemake/slurm_logs').resolve()}/"
    told = set()
    while True:
        lines = subprocess.run(queue, capture_output=True, text=True).stdout.splitlines()
        jobs = {job for job, _, log in (line.partition(" ") for line in lines) if log.startswith(logs)}
        if not jobs:
            return
        if jobs - told:
            logger.info(
                f"Waiting for SLURM jobs that an earlier run left here: {' '.join(sorted(jobs))}. "
                "What they finish is kept; scancel them to start again without."
            )
            told |= jobs
        time.sleep(seconds)


RUN_LOCK = clear_stale_lock() if workflow.is_main_process else None
if RUN_LOCK:
    wait_for_left_over_jobs()


def scores_file(score):
    """Where scores are kept; nothing where there are none."""
    return f"resources/scores/{score.name}.json" if score else []


def plan_file(variant):
    """The plan that a variant was cut by, or that what it was made from was cut by."""
    root = VARIANTS[variant].root
    return f"baselines/{root}/plan.json" if root in PLANNED else []


def calibration_text(samples, skip=0):
    """What is drawn from the calibration source."""
    text = CONFIG.calibration
    split = split_for(text.source, text.split, "calibration")
    return dict(source=text.source, split=split, samples=samples, length=text.length, seed=text.seed, skip=skip)


def text_file(text):
    """A text or token file as an input of the job that reads it; named sources are none."""
    return text.source if is_file(text.source) else []


PACKAGES = {**MODELS, **PRETRAINED_ENCODERS}


def package_folder(name):
    """Where the model of a package is fetched to; nothing where there is none."""
    return f"resources/packages/{name}" if name else None
