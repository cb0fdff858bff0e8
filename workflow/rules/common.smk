# Names and helpers that the other rule files use. Parsing imports no torch.
import functools
import json
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
SOURCE = ROOT / "src" / "vitrail"
sys.path.insert(0, str(ROOT / "src"))

from vitrail.steps import begin_run, listen, set_paths

# First of all: Ctrl-C ends with a sentence from here on.
listen(workflow.is_main_process)

from vitrail import code_files as study_code
from vitrail import complexity_plan as study_complexity
from vitrail import config as study_config
from vitrail import cost as study_cost
from vitrail import ending as study_ending
from vitrail import gpus as study_gpus
from vitrail import jobs as study_jobs
from vitrail import places as study_places
from vitrail import planning as study_planning
from vitrail import settings as study_settings
from vitrail import slurm as study_slurm
from vitrail import views as study_views
from vitrail.errors import VitrailError
from vitrail.files import sha256
from vitrail.progress import follow as study_progress
from vitrail.scheduler import drop_rate_limit
from vitrail.watch import end_steps_when_told

set_paths(ROOT)

try:
    PLANNED = study_planning.plan_study(
        config, ROOT, map(Path, workflow.overwrite_configfiles)
    )
    study_places.check_kinds(Path("results"), PLANNED.plan.study)
    # After the config is known to be right: a mistake there writes nothing.
    begin_run(
        workflow.is_main_process, getattr(workflow.output_settings, "dryrun", False)
    )
except VitrailError as error:
    # One sentence and nothing else; a WorkflowError would add the place in this file.
    sys.exit(f"vitrail: {error}")

config.clear()
config.update(PLANNED.config)
PLAN, SUBJECT = PLANNED.plan, PLANNED.subject
TIMING, EXECUTION, REDUCTION = PLANNED.timing, PLANNED.execution, PLANNED.reduction
STUDY = PLAN.study
# Of a job that computes on a GPU: how many a cluster gives it, and how much of one it takes where
# jobs share it (docs/devices.md).
GPU, WHOLE_GPU = (
    study_gpus.granted(config["device"]),
    study_gpus.planned(config["device"]),
)
# None where Snakemake runs no job, as with --unlock; `workflow.cores` would refuse that. A job on a
# cluster has the CPUs that it was given, not all that its node has.
GIVEN = 0 if workflow.is_main_process else study_slurm.cpus()
CORES = GIVEN or workflow.resource_settings.cores or 1
STEMS = study_config.STEMS
RESULTS = "results"
ENVIRONMENT = "../../environment.yml"
# The four files can only be what their checksums say, and every step that reads them looks. So
# their times mean nothing; after a clock that ran ahead they would train everything, each time.
MNIST_FILES = expand("results/data/{name}", name=study_settings.MNIST_FILES)
MNIST = [*map(ancient, MNIST_FILES), "results/data/source.json"]


def source(*names):
    """Source files of the package, as named inputs of the rules whose results they decide."""
    found = [path for name in names for path in sorted(SOURCE.glob(name))]
    return [path.relative_to(ROOT).as_posix() for path in found]


CODE_MODEL = source(*study_code.MODEL)
CODE_TRAIN = source(*study_code.TRAIN)
CODE_PRETRAIN = source(*study_code.PRETRAIN)
CODE_QUESTIONS = source(
    "analysis.py",
    "claims.py",
    "style.py",
    "efficiency.py",
    "scaling.py",
    "cost_model.py",
) + source("label_errors.py", "drawings/*.py", "questions/[!q]*.py", "questions/*/*.py")


def content_of(files):
    """One hash of what source files hold, in their order."""
    return study_settings.digest({"files": [content_of_file(file) for file in files]})


@functools.cache
def content_of_file(file):
    return sha256(ROOT / file)


def heading(stem):
    """The category of a question in Snakemake's own report."""
    number, _, topic = stem.partition("_")
    return f"{number.upper()} {topic.replace('_', ' ')}"


def as_json(content):
    """JSON for a command line. The order is kept: it is the order of tables and figures."""
    return json.dumps(content)


def verbatim(text):
    """A param that holds just this text; braces in a plain string would be taken for wildcards."""
    return lambda wildcards: text


def as_text(content):
    """Content as a param of JSON."""
    return verbatim(as_json(content))


def part_of_config(stem):
    """The config as far as one question depends on it: not the arms of the others."""
    others = {
        name: (
            {"timing": {}, "execution": {}, "reduction": {}}
            if name == "q7_complexity"
            else {}
        )
        for name in STEMS
        if name != stem
    }
    starts = any(PLAN.arms[arm].settings.get("start") for arm in PLAN.arms_of(stem))
    return {
        **{key: value for key, value in config.items() if key != "report"},
        "pretraining": config["pretraining"] if starts else {},
        "questions": {**others, stem: config["questions"][stem]},
    }


def run_files(arms, names):
    """Files of all runs of some arms."""
    return [
        f"{RESULTS}/{STUDY}/runs/{study_settings.run_id(arm, seed)}/{name}"
        for arm in arms
        for seed in PLAN.arms[arm].seeds
        for name in names
    ]


# The run that Q7 computes in several ways and with fewer tokens.
SUBJECT_RUN = run_files([SUBJECT.arm_id], ["summary.json"])[0]


def arms_read_by(stem):
    """The arms that a question reads: its own, and the base ViT for its pictures."""
    return sorted({*PLAN.arms_of(stem), PLAN.base})


def arms_at_home(stem):
    """The arms whose runs MLflow keeps under this question."""
    return sorted(arm.arm_id for arm in PLAN.arms.values() if arm.question == stem)


def rows_at_home(wildcards):
    """The same arms for the run table, without the settings, which stand in the run folders."""
    return as_json(study_planning.rows_at_home(PLAN, wildcards.stem))


def settings_of(wildcards):
    return as_json(PLAN.arms[wildcards.arm].settings)


def part_of_gpu(arms):
    """How much of a GPU the training of some arms takes, in per cent."""
    settings = [PLAN.arms[arm].settings for arm in arms]
    return study_gpus.planned(config["device"], settings)


def starts_of(arms):
    """The pretrainings of this study that some arms start from, and the runs they learn from."""
    needed = []
    for arm in arms:
        start, teacher = (
            PLAN.arms[arm].settings.get(key) for key in ("start", "teacher")
        )
        if start:
            needed.append(f"{RESULTS}/{STUDY}/pretraining/{start}/summary.json")
        if teacher:
            needed += run_files([teacher], ["summary.json"])
    return sorted(set(needed))


def weights_read_by(arms):
    """What was found of the ImageNet weights that these arms start from, each file once."""
    names = {study_settings.weights_file(PLAN.arms[arm].settings) for arm in arms}
    return [f"{RESULTS}/{STUDY}/{name}" for name in sorted(names - {""})]


# Shared by the jobs of this machine; a job of a cluster has a GPU of its own.
resource_scopes:
    gpu_percent="local",


def memory(megabytes):
    """Memory that a cluster gives a job: more each time that it is tried again (`retries`)."""
    return lambda wildcards, attempt: attempt * megabytes


wildcard_constraints:
    arm=study_jobs.pattern_of(PLAN.arms),
    start="|".join(map(re.escape, PLAN.pretrainings)) or "none",
    stem="|".join(STEMS),
