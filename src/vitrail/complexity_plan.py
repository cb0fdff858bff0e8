"""What Q7 measures beside its trainings: the blocks of its config, checked against the plan.

Imports neither torch nor pandas, because Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

from typing import Any

from vitrail.config import Config
from vitrail.errors import VitrailError
from vitrail.runs import Arm, Plan
from vitrail.settings import (
    IMAGE_SIZE,
    MODEL_FIELDS,
    NEUTRAL,
    Settings,
    canonical,
    in_full,
    weights_file,
)

# What the base ViT must have because Q7 accounts for its cost, by the setting of it.
ACCOUNTED = {
    "attention": "softmax attention",
    "patch_embed": "linear patches",
    "drop_rate": "a network without dropout",
}
TUNED = {"timm_model": "vit_small_patch16_224", "pretrained": "augreg_in1k"}


def timing_settings(config: Config) -> dict[str, Any]:
    """What Q7 times: its own block, on the architecture of the base ViT.

    Raises:
        VitrailError: when a number of heads does not divide its width, a width is there twice,
            or the base ViT has a part whose cost Q7 does not account for.
    """
    for field, accounted in ACCOUNTED.items():
        if config["defaults"][field] != NEUTRAL[field]:
            raise VitrailError(
                f"config: defaults.{field} is {config['defaults'][field]}, but Q7 accounts for "
                f"{accounted}; set {field} in the settings of an experiment or arm instead"
            )
    asked = config["questions"]["q7_complexity"]["timing"]
    timing = {key: canonical(value) for key, value in asked.items()}
    seen = set()
    for entry in timing.get("widths", []):
        width, heads = entry["embed_dim"], entry["num_heads"]
        where = "config: questions.q7_complexity.timing.widths"
        if width % heads:
            raise VitrailError(f"{where}: num_heads {heads} does not divide embed_dim {width}")
        if width in seen:
            raise VitrailError(f"{where} has embed_dim {width} twice; leave one of them out")
        seen.add(width)
    base = config["defaults"]
    fields = [field for field in MODEL_FIELDS["vit"] if field != "patch_size"]
    model = {field: canonical(base[field]) for field in fields}
    model |= {"img_size": IMAGE_SIZE, "in_chans": 1, "num_classes": 10}
    return {"mlp_ratio": base["mlp_ratio"], **timing, "model": model, "device": config["device"]}


def execution_settings(config: Config) -> dict[str, Any]:
    """What Q7 measures of the ways to compute a network, without which network."""
    asked = config["questions"]["q7_complexity"]["execution"]
    return {**{key: canonical(value) for key, value in asked.items()}, "device": config["device"]}


def reduction_settings(config: Config, plan: Plan) -> dict[str, Any]:
    """How Q7 reduces the tokens of a network, without which network.

    Raises:
        VitrailError: when the network has no class token, by which tokens are chosen.
    """
    settings = in_full(subject(config, plan).settings)
    if settings["global_pool"] != "token" or settings["norm"] != "pre":
        raise VitrailError(
            "config: questions.q7_complexity.subject names a ViT whose tokens cannot be reduced; "
            "name one with global_pool token and norm pre, or set them on that arm"
        )
    if settings["attention"] != "softmax":
        raise VitrailError(
            "config: questions.q7_complexity.subject names a ViT whose tokens cannot be reduced; "
            f"its attention is {settings['attention']}, name one with softmax"
        )
    if settings["patch_embed"] != "linear":
        raise VitrailError(
            "config: questions.q7_complexity.subject names a ViT whose tokens cannot be reduced; "
            f"its patch_embed is {settings['patch_embed']}, name one with linear"
        )
    asked = config["questions"]["q7_complexity"]["reduction"]
    size = min(asked["train_size"], settings["train_size"])
    if asked["batch_size"] > size:
        raise VitrailError(
            "config: questions.q7_complexity.reduction.batch_size is "
            f"{asked['batch_size']}, but there are {size} images (train_size); lower it"
        )
    return {key: canonical(value) for key, value in asked.items()}


def trained_for_less(plan: Plan) -> dict[str, Settings]:
    """Settings by arm id of the trainings that Q7 compares: its experiments of several arms."""
    return {
        member.arm.arm_id: member.arm.settings
        for experiment in plan.of_question("q7_complexity")
        if len(experiment.members) > 1
        for member in experiment.members
    }


def tuned_weights(plan: Plan) -> str:
    """Where the weights are from which Q7 tunes ViT-S: those of the plan's ViT-S, if it has any."""
    arms = (arm.settings for arm in plan.arms.values())
    named = (weights_file(own) for own in arms if own.get("timm_model") == TUNED["timm_model"])
    return next(filter(None, named), weights_file(TUNED))


def subject(config: Config, plan: Plan) -> Arm:
    """The arm whose trained network Q7 computes in several ways and with fewer tokens.

    An experiment of Q7 goes before one of the same name elsewhere.

    Raises:
        VitrailError: when there is no such experiment or arm, or it is no ViT of ours.
    """
    where = "config: questions.q7_complexity.subject"
    name, arm = config["questions"]["q7_complexity"]["subject"]
    order = sorted(plan.experiments, key=lambda about: about.question != "q7_complexity")
    about = next((about for about in order if about.name == name), None)
    if about is None:
        known = ", ".join(dict.fromkeys(about.name for about in order))
        raise VitrailError(f"{where} names the experiment {name!r}, but the study has {known}")
    try:
        found = about.member(arm).arm
    except KeyError:
        known = ", ".join(member.name for member in about.members)
        raise VitrailError(
            f"{where} names the arm {arm!r} of {name}, but its arms are {known}"
        ) from None
    if found.settings["model"] != "vit":
        raise VitrailError(
            f"{where}: {name}.{arm} is of model {found.settings['model']!r}; name an arm of "
            "model 'vit'"
        )
    return found
