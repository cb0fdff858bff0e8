# Names and helpers that the other rule files use. Parsing imports no torch.
import json
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
SOURCE = ROOT / "src" / "vitrail"
sys.path.insert(0, str(ROOT / "src"))

from vitrail import complexity_plan as study_complexity
from vitrail import config as study_config
from vitrail import ending as study_ending
from vitrail import runs as study_runs
from vitrail import settings as study_settings
from vitrail import views as study_views
from vitrail.errors import VitrailError
from vitrail.steps import set_paths

set_paths(ROOT)

try:
    # Snakemake puts the keys of --configfile first. The order of arms and experiments is that
    # of config/default.yaml, whatever a file on the command line overrides.
    ordered = study_config.load([ROOT / "config" / "default.yaml"])
    study_config.merge(ordered, config)
    config.clear()
    config.update(ordered)
    study_config.validate(config, ROOT / "workflow" / "schemas" / "config.schema.yaml")
    PLAN = study_runs.expand(config)
    TIMING = study_complexity.timing_settings(config)
    EXECUTION = study_complexity.execution_settings(config)
    REDUCTION = study_complexity.reduction_settings(config, PLAN)
    SUBJECT = study_complexity.subject(config, PLAN)
except VitrailError as error:
    # One sentence and nothing else; a WorkflowError would add the place in this file.
    sys.exit(f"vitrail: {error}")

# Snakemake starts what can be started by priority. A question whose runs are there is answered
# and recorded at once; of the trainings the longest come first, then question by question.
ANSWER, PRETRAIN, LONGEST, THRESHOLDS = 50, 30, 25, 20


def of_question(stem):
    """The priority of a question's trainings, 18 to 11."""
    return 10 + len(STEMS) - STEMS.index(stem)


STUDY = PLAN.study
STEMS = study_config.STEMS
RESULTS = "results"
ENVIRONMENT = "../../environment.yml"
MNIST = expand("results/data/{name}", name=[*study_settings.MNIST_FILES, "source.json"])


def source(*names):
    """Source files of the package, as named inputs of the rules whose results they decide."""
    found = [path for name in names for path in sorted(SOURCE.glob(name))]
    return [path.relative_to(ROOT).as_posix() for path in found]


CODE_MODEL = source("model/*.py", "networks.py", "efficiency.py")
CODE_TRAIN = [
    *CODE_MODEL,
    *source(
        "train.py", "optimizers.py", "muon.py", "augment.py", "data.py", "device.py"
    ),
    *source("sam.py", "selection.py", "growing.py", "linear_probe.py"),
    *source("few_labels.py", "early_stopping.py", "distillation.py"),
    *source("run_folder.py", "settings.py"),
]
CODE_PRETRAIN = [
    *CODE_MODEL,
    *source("pretraining/*.py", "formula/*.py", "optimizers.py", "muon.py", "data.py"),
    *source("device.py", "settings.py"),
]
CODE_QUESTIONS = source(
    "analysis.py",
    "claims.py",
    "style.py",
    "efficiency.py",
    "scaling.py",
    "cost_model.py",
) + source("label_errors.py", "drawings/*.py", "questions/[!q]*.py", "questions/*/*.py")


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
    """Their rows of the run table, without the settings, which stand in the run folders."""
    named = ("run_id", "arm_id", "arm", "label", "question", "experiment", "seed")
    return as_json(
        [
            {name: row[name] for name in named}
            for row in study_runs.rows(PLAN)
            if row["question"] == wildcards.stem
        ]
    )


def settings_of(wildcards):
    return as_json(PLAN.arms[wildcards.arm].settings)


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


def training_work(arm):
    """Rough work of an arm, to start the longest trainings first."""
    settings = PLAN.arms[arm].settings
    images = study_settings.steps_of(settings) * settings["batch_size"]
    if settings["model"] == "cnn":
        return images * settings["channels"] ** 2 * 300
    if "patch_size" not in settings:
        # A CNN of timm costs about as much as EfficientNet-Lite0; an MLP hardly anything.
        return images * (1e7 if settings["model"] == "timm" else 1e5)
    tokens = (settings.get("img_size", 28) // settings["patch_size"]) ** 2 + 1
    # timm's models are taken for ViT-S, the only one that the study has.
    return (
        images
        * tokens
        * settings.get("embed_dim", 384) ** 2
        * settings.get("depth", 12)
    )


def training_together():
    """Name, seeds and arms of each rule that trains a method at all its label budgets.

    They are so short that starting a process for each would cost as much as the training.
    """
    groups = {}
    for arm, one in PLAN.arms.items():
        if one.job:
            groups.setdefault((one.job, one.seeds), []).append(arm)
    several = len({job for job, _ in groups}) < len(groups)
    return [
        (
            f"train_{job}" + (f"_seeds_{'_'.join(map(str, seeds))}" if several else ""),
            seeds,
            arms,
        )
        for (job, seeds), arms in groups.items()
    ]


def asked_first(arm):
    """The first question that reads an arm."""
    return next(stem for stem in STEMS if arm in arms_read_by(stem))


def training_rules():
    """Name, priority, seeds and arms of each rule that trains arms one by one.

    The outputs of a job are the runs of all its arm's seeds, so arms with other seeds need
    their own rule. So do the longest trainings: priorities are fixed numbers, and one of them
    started last would keep a single core busy at the end. The others are trained question by
    question, so that the first answers and their runs in MLflow can be looked at early.
    """
    alone = {arm: one for arm, one in PLAN.arms.items() if not one.job}
    work = {arm: training_work(arm) * len(one.seeds) for arm, one in alone.items()}
    long = 2 * sum(work.values()) / len(work)
    groups = {}
    for arm, one in alone.items():
        stem = asked_first(arm)
        longest = work[arm] > long
        name = "train_longest" if longest else f"train_{stem}"
        if one.seeds != PLAN.seeds:
            name += "_seeds_" + "_".join(map(str, one.seeds))
        priority = LONGEST if longest else of_question(stem)
        groups.setdefault((name, priority, one.seeds), []).append(arm)
    return [(*key, sorted(arms)) for key, arms in groups.items()]


wildcard_constraints:
    arm="|".join(map(re.escape, PLAN.arms)),
    start="|".join(map(re.escape, PLAN.pretrainings)) or "none",
    stem="|".join(STEMS),
