"""Q8: timm's ViT-S on MNIST: the size of its input, and with or without ImageNet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from vitrail.analysis import mcnemar, p_words
from vitrail.files import read_json
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.experiments.common import add
from vitrail.questions.study import Study
from vitrail.runs import Experiment
from vitrail.settings import steps_of

MODEL = "vit_small_patch16_224"

# (what is tried, model, arguments of timm.create_model, shape of the tensor)
TRIALS: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
    ("ViT-S as it comes, gray 28 px", MODEL, {}, (1, 1, 28, 28)),
    ("ViT-S as it comes, RGB 28 px", MODEL, {}, (1, 3, 28, 28)),
    ("ViT-S as it comes, gray 224 px", MODEL, {}, (1, 1, 224, 224)),
    ("img_size=28, patch 16 kept", MODEL, {"img_size": 28}, (1, 3, 28, 28)),
    (
        "img_size=28, patch_size=7, in_chans=1",
        MODEL,
        {"img_size": 28, "patch_size": 7, "in_chans": 1},
        (1, 1, 28, 28),
    ),
    ("dynamic_img_size=True, RGB 28 px", MODEL, {"dynamic_img_size": True}, (1, 3, 28, 28)),
    ("ResNet-18, RGB 28 px", "resnet18", {}, (1, 3, 28, 28)),
    ("ResNet-18, gray 28 px", "resnet18", {}, (1, 1, 28, 28)),
    ("VGG-11, RGB 28 px", "vgg11", {}, (1, 3, 28, 28)),
]


def answer(study: Study) -> Answer:
    """What timm does with MNIST tensors, the arms, and McNemar between the main pairs."""
    result = Answer(sentence="", table=pd.DataFrame())
    inputs = input_table()
    result.data["inputs"] = inputs
    result.tables["inputs"] = markdown_table(
        inputs.rename(columns={"tried": "Tried", "shape": "Tensor", "outcome": "What happens"}),
        "What timm does with tensors of MNIST's shape, tried when this report was made.",
        "q8-inputs",
        left=3,
    )
    weights = read_json(study.folder / "weights.json")
    result.numbers["weights"] = {
        "status": weights["status"],
        "tag": str(weights["tag"]),
        "dataset": str(weights.get("dataset", "")),
        "reason": str(weights.get("reason", "")),
    }
    result.numbers["budget"] = budget_words(study)
    pairs = []
    for experiment in study.plan.of_question("q8_transfer"):
        pairs += head_to_head(study, experiment)
    result.data["mcnemar"] = pd.DataFrame(pairs)
    result.tables["mcnemar"] = mcnemar_markdown(pairs)
    tables = add(study, result, "q8_transfer")
    result.sentence = " ".join(
        [
            "timm's ViT-S refuses 28-pixel images because its patch embedding asserts 224 and its "
            "positional embedding has 197 rows; `img_size=28`, a `patch_size` that divides it and "
            "`in_chans=1` rebuild the model and, with pretrained weights, resample them.",
            *(sentence(result.numbers[name]) for name in tables),
            imagenet_words(study, weights),
        ]
    )
    return result


def budget_words(study: Study) -> dict[str, str]:
    """Images, steps, patches and learning rates of the arms that Q8 compares."""
    arms = [study.plan.arms[arm].settings for arm in study.plan.arms_of("q8_transfer")]
    large = [settings for settings in arms if settings["model"] == "timm"]
    small = [settings for settings in arms if settings["model"] != "timm"]

    def said(values: Iterable[float]) -> str:
        return " or ".join(f"{value:,g}" for value in sorted(set(values))) or "no"

    return {
        "images": said(settings["train_size"] for settings in arms),
        "steps": said(steps_of(settings) for settings in arms),
        "patch_size": said(settings["patch_size"] for settings in large),
        "rate_timm": said(settings["learning_rate"] for settings in large),
        "rate_small": said(settings["learning_rate"] for settings in small),
    }


def imagenet_words(study: Study, weights: dict[str, Any]) -> str:
    """What became of the arms that need ImageNet weights; nothing when there are none."""
    arms = study.plan.arms_of("q8_transfer")
    if not any(study.plan.arms[arm].settings.get("pretrained") for arm in arms):
        return ""
    if weights["status"] != "available":
        return f"The ImageNet arm was **not run**: {weights['reason']}."
    return f"The pretrained weights are {weights['tag']} ({weights['dataset']})."


def sentence(quoted: dict[str, Any]) -> str:
    """The accuracies of an experiment in a line."""
    arms = [arm for arm in quoted.values() if isinstance(arm, dict)]
    return "; ".join(f"{arm['label']}: **{arm['accuracy']}**" for arm in arms) + "."


def input_table() -> pd.DataFrame:
    """Try each call and keep the exception or the shape that comes out."""
    import timm
    import torch

    rows = []
    for tried, name, arguments, shape in TRIALS:
        try:
            model: Any = timm.create_model(name, pretrained=False, **arguments).eval()
            with torch.inference_mode():
                logits = model(torch.zeros(shape))
            outcome = f"runs, logits {tuple(logits.shape)}"
            if hasattr(model, "patch_embed"):
                grid = model.patch_embed.grid_size
                outcome += f", {counted_patches(grid)}"
                if grid[0] * model.patch_embed.patch_size[0] < shape[-1]:
                    outcome += "; **the rest of the image is ignored**"
        except Exception as error:  # the exception is the result here
            outcome = f"`{type(error).__name__}: {str(error).splitlines()[0][:110]}`"
        rows.append({"tried": tried, "shape": str(shape), "outcome": outcome})
    return pd.DataFrame(rows)


def counted_patches(grid: tuple[int, int]) -> str:
    """How many patches a grid has, in words."""
    number = grid[0] * grid[1]
    return f"{number} patch" if number == 1 else f"{number} patches"


def head_to_head(study: Study, experiment: Experiment) -> list[dict[str, Any]]:
    """McNemar's test of each arm against the reference, seed by seed."""
    rows = []
    truth = study.mnist.test_labels
    reference = experiment.member(experiment.reference)
    for member in experiment.members:
        for seed in experiment.seeds:
            ids = [reference.arm.arm_id, member.arm.arm_id]
            ran = [study.summary(arm, seed)["status"] == "finished" for arm in ids]
            if member is reference or not all(ran):
                continue
            first, second = (study.test_logits(arm, seed).argmax(axis=1) == truth for arm in ids)
            test = mcnemar(second, first)
            rows.append(
                {
                    "experiment": experiment.name,
                    "arm": member.label,
                    "reference": reference.label,
                    "seed": seed,
                    "only_arm_right": test.only_first,
                    "only_reference_right": test.only_second,
                    "p_value": test.p_value,
                }
            )
    return rows


def mcnemar_markdown(pairs: list[dict[str, Any]]) -> str:
    """The pairs of the first seed."""
    seed = min((row["seed"] for row in pairs), default=None)
    first = [row for row in pairs if row["seed"] == seed]
    if not first:
        return "No two arms ran, so there is nothing to test.\n"
    frame = pd.DataFrame(
        {
            "Arm": [row["arm"] for row in first],
            "Reference": [row["reference"] for row in first],
            "Only the arm is right": [row["only_arm_right"] for row in first],
            "Only the reference is right": [row["only_reference_right"] for row in first],
            "p": [p_words(row["p_value"]) for row in first],
        }
    )
    return markdown_table(
        frame,
        f"McNemar's exact test on the 10,000 test images, seed {seed}.",
        "q8-mcnemar",
        left=2,
    )
