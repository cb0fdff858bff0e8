"""The settings of an arm: which there are, what identifies them, whether they make sense.

An *arm* is one set of settings; a *run* is an arm with one seed. Imports neither torch
nor pandas, because Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

IMAGE_SIZE = 28
NUM_CLASSES = 10
HELD_OUT = 5  # early stopping holds one label in so many out
Settings = dict[str, Any]

AUGMENTATIONS = ("rotation", "translation", "scaling")
# What decides the outcome of a run, by kind of model. Labels, titles and the order in
# the config are no part of it; the study's device is not either.
TRAINING_FIELDS = (
    "model",
    "train_size",
    "validation",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "matrix_learning_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "label_smoothing",
    *AUGMENTATIONS,
    "evaluations",
    "precision",
    "sam_radius",
    "selection",
    "grow",
    "label_budget",
    "steps",
    "start",
    "teacher",
    "early_stopping",
    "tune",
    "pixel_mean",
    "pixel_std",
)
MODEL_FIELDS = {
    "vit": (
        "patch_size",
        "patch_embed",
        "embed_dim",
        "depth",
        "num_heads",
        "head_dim",
        "attention",
        "window_size",
        "mlp_ratio",
        "qkv_bias",
        "class_token",
        "global_pool",
        "pos_embed",
        "pos_embed_std",
        "pos_embed_rms",
        "norm",
        "act",
        "init",
        "patch_drop_rate",
        "drop_rate",
    ),
    "cnn": ("channels",),
    "mlp": ("hidden",),
    "logistic": (),
    "timm": ("timm_model", "img_size", "patch_size", "pretrained"),
}
# What a setting is when it changes nothing. At these values it is no part of the identity, so
# that the arms that do not use it keep their ids; `in_full` puts it back.
NEUTRAL: Settings = {
    "patch_embed": "linear",
    "attention": "softmax",
    "init": "xavier",
    "patch_drop_rate": 0,
    "drop_rate": 0,
    "sam_radius": 0,
    "selection": "all",
    "grow": "none",
    "label_budget": 0,
    "steps": 0,
    "start": "",
    "teacher": "",
    "early_stopping": False,
    "img_size": IMAGE_SIZE,
    "tune": "all",
}
# Of the data step; vitrail.data has their checksums (and imports numpy, so not here).
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
RUN_FILES = ("config.json", "env.json", "summary.json")
FINISHED_FILES = ("history.csv", "timing.csv", "predictions.npz", "model.safetensors")


def run_id(arm_id: str, seed: int) -> str:
    """The name of a run and of its folder."""
    return f"{arm_id}-s{seed}"


def relevant(settings: Settings) -> Settings:
    """The settings that a model of this kind reads, in a fixed order."""
    fields = {*TRAINING_FIELDS, *MODEL_FIELDS[settings["model"]]}
    if not takes_patches(settings):
        fields.discard("patch_size")
    if settings.get("pos_embed") != "learned":
        fields.discard("pos_embed_std")  # fixed positions have no start
    if settings.get("pos_embed") not in ("sinusoidal", "sinusoidal_2d"):
        fields.discard("pos_embed_rms")
    if settings["optimizer"] != "muon":
        fields.discard("matrix_learning_rate")
    if settings.get("steps"):
        fields.discard("epochs")  # the steps say how long
    if settings.get("attention") != "window":
        fields.discard("window_size")
    fields -= {name for name, value in NEUTRAL.items() if settings.get(name, value) == value}
    return {field: canonical(settings[field]) for field in sorted(fields)}


def in_full(settings: Settings) -> Settings:
    """The settings of an arm with those that are no part of its identity, at their values."""
    return {**NEUTRAL, **settings}


def arm_id(settings: Settings) -> str:
    """A readable slug and a hash of exactly the settings that decide the outcome."""
    return f"{slug(settings)}-{digest(settings)}"


def digest(content: Settings) -> str:
    """A short hash of settings, whatever their order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def canonical(value: Any) -> Any:
    """4 and 4.0 are the same setting."""
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def slug(settings: Settings) -> str:
    """What kind of network it is, in letters, digits and dashes."""
    if settings["model"] == "vit":
        return (
            f"vit-p{settings['patch_size']}-d{settings['embed_dim']}"
            f"-l{settings['depth']}-h{settings['num_heads']}"
        )
    if settings["model"] == "cnn":
        return f"cnn-c{settings['channels']}"
    if settings["model"] == "mlp":
        return f"mlp-w{settings['hidden']}"
    if settings["model"] == "logistic":
        return "logistic"
    start = settings["pretrained"] or "scratch"
    name = settings["timm_model"].split("_patch")[0]
    if "patch_size" in settings:
        name += f"-p{settings['patch_size']}"
    if "img_size" in settings:
        name += f"-{settings['img_size']}px"
    # The slug is part of a path: whatever a name holds, only these characters go in.
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{name}-{start}")


def labels_of(settings: Settings) -> int:
    """Images whose labels a run may use."""
    budget: int = settings.get("label_budget") or settings["train_size"]
    return budget


def images_of(settings: Settings) -> int:
    """Images that a run trains on: those with labels, less what early stopping holds out."""
    labels = labels_of(settings)
    return labels - labels // HELD_OUT if settings.get("early_stopping") else labels


def takes_patches(settings: Settings) -> bool:
    """Whether an arm's network cuts the image into patches of `patch_size`.

    Of timm's models those do that are called vit_, deit or flexivit_, or whose name holds the
    size of their patches (`_patch16`); the others are taken for CNNs, which have no such size.
    """
    if settings["model"] != "timm":
        return settings["model"] == "vit"
    name = settings["timm_model"]
    return "_patch" in name or name.startswith(("vit_", "deit", "flexivit_", "test_vit"))


def weights_file(settings: Settings) -> str:
    """Where a study keeps what was found of an arm's ImageNet weights; empty without any."""
    if not settings.get("pretrained"):
        return ""
    return f"weights/{settings['timm_model']}.{settings['pretrained']}.json"


def steps_of(settings: Settings) -> int:
    """Optimiser steps of a run: every epoch drops the images that fill no batch."""
    if settings.get("steps"):
        return int(settings["steps"])
    whole, part = divmod(settings["epochs"], 1)
    size, samples = settings["batch_size"], images_of(settings)
    return int(whole) * (samples // size) + round(part * samples) // size
