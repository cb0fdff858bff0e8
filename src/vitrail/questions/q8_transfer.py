"""Q8: timm's ViT-S on MNIST: the size of its input, and with or without ImageNet."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.analysis import mcnemar
from vitrail.claims import Claim, holds
from vitrail.files import read_json
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.experiments import add, difference
from vitrail.questions.study import Study
from vitrail.runs import Experiment

MODEL = "vit_small_patch16_224"
ALPHA = 0.05

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
    pairs = []
    for experiment in study.plan.of_question("q8_transfer"):
        pairs += head_to_head(study, experiment)
        result.claims += pretrained_claim(study, experiment, weights)
    result.data["mcnemar"] = pd.DataFrame(pairs)
    result.tables["mcnemar"] = mcnemar_markdown(pairs, study)
    tables = add(study, result, "q8_transfer")
    result.sentence = " ".join(
        [
            "timm's ViT-S refuses 28-pixel images because its patch embedding asserts 224 and its "
            "positional embedding has 197 rows; `img_size=28, patch_size=7, in_chans=1` rebuilds "
            "both and, with pretrained weights, resamples them.",
            *(sentence(result.numbers[name]) for name in tables),
            f"The ImageNet arm was **not run**: {weights['reason']}"
            if weights["status"] != "available"
            else f"The pretrained weights are {weights['tag']} ({weights['dataset']}).",
        ]
    )
    return result


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
                outcome += f", {grid[0] * grid[1]} patch(es)"
                if grid[0] * model.patch_embed.patch_size[0] < shape[-1]:
                    outcome += "; **the rest of the image is ignored**"
        except Exception as error:  # the exception is the result here
            outcome = f"`{type(error).__name__}: {str(error).splitlines()[0][:110]}`"
        rows.append({"tried": tried, "shape": str(shape), "outcome": outcome})
    return pd.DataFrame(rows)


def head_to_head(study: Study, experiment: Experiment) -> list[dict[str, Any]]:
    """McNemar's test of each arm against the reference, seed by seed."""
    rows = []
    truth = study.mnist.test_labels
    reference = experiment.member(experiment.reference)
    for member in experiment.members:
        for seed in study.plan.seeds:
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


def mcnemar_markdown(pairs: list[dict[str, Any]], study: Study) -> str:
    """The pairs of the first seed."""
    first = [row for row in pairs if row["seed"] == study.plan.seeds[0]]
    if not first:
        return "No two arms ran, so there is nothing to test.\n"
    frame = pd.DataFrame(
        {
            "Arm": [row["arm"] for row in first],
            "Reference": [row["reference"] for row in first],
            "Only the arm is right": [row["only_arm_right"] for row in first],
            "Only the reference is right": [row["only_reference_right"] for row in first],
            "p": [f"{row['p_value']:.2g}" for row in first],
        }
    )
    return markdown_table(
        frame,
        f"McNemar's exact test on the 10,000 test images, seed {study.plan.seeds[0]}.",
        "q8-mcnemar",
        left=2,
    )


def pretrained_claim(study: Study, experiment: Experiment, weights: dict[str, Any]) -> list[Claim]:
    """ImageNet weights help ViT-S, when they could be had."""
    pretrained = [m.name for m in experiment.members if m.arm.settings.get("pretrained")]
    scratch = [
        m.name
        for m in experiment.members
        if m.arm.settings["model"] == "timm" and not m.arm.settings["pretrained"]
    ]
    if not pretrained or not scratch:
        return []
    gap = difference(study, experiment, pretrained[0], scratch[0])
    test = "95 % interval of the paired difference of test accuracy, pretrained minus scratch"
    text = "ImageNet weights raise the accuracy of ViT-S on MNIST at this budget."
    if gap.n < 2:
        evidence = weights["reason"] if gap.n == 0 else "one seed has no interval"
        return [holds("q8-imagenet-helps", text, test, f"not decided: {evidence}", None)]
    outcome = True if gap.low > 0 else False if gap.high < 0 else None
    evidence = f"{100 * gap.mean:+.2f} ± {100 * gap.half_width:.2f} points"
    return [holds("q8-imagenet-helps", text, test, evidence, outcome)]
