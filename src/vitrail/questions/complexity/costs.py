"""The table of costs: part by part, for the base ViT and for ViT-S on MNIST."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.cost_model import PARTS, Cost, total, training_macs, vit_costs
from vitrail.networks import IN_CHANS, build
from vitrail.questions.answer import markdown_table
from vitrail.questions.study import Study
from vitrail.runs import Arm
from vitrail.settings import IMAGE_SIZE, NUM_CLASSES


def cost_frame(study: Study) -> pd.DataFrame:
    """One row per network and part, with a row `total` for each network."""
    rows = []
    for name, arguments in networks(study).items():
        written, fused = (vit_costs(**arguments, fused_attn=kind) for kind in (False, True))
        training = training_macs(written)
        for part in [*PARTS, "total"]:
            cost = total(written) if part == "total" else written[part]
            kernel = total(fused) if part == "total" else fused[part]
            if cost == Cost():
                continue
            rows.append(
                {
                    "network": name,
                    "part": part,
                    "macs": cost.macs,
                    "share": cost.macs / total(written).macs,
                    "parameters": cost.parameters,
                    "activation_bytes": cost.activations,
                    "activation_bytes_fused": kernel.activations,
                    "training_macs": training if part == "total" else pd.NA,
                }
            )
    return pd.DataFrame(rows).astype({"training_macs": "Int64"})


def networks(study: Study) -> dict[str, dict[str, Any]]:
    """Arguments of `vit_costs`: of the base ViT, and of the study's ViT from timm if any."""
    base = study.plan.arms[study.plan.base].settings
    known = [
        *("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias"),
        *("class_token", "global_pool", "pos_embed", "norm", "act", "head_dim"),
    ]
    image = {"img_size": IMAGE_SIZE, "in_chans": IN_CHANS, "num_classes": NUM_CLASSES}
    found = {"base ViT": image | {key: base[key] for key in known}}
    for arm in study.plan.arms.values():
        if arm.settings["model"] == "timm":
            sizes = timm_arguments(arm)
            if sizes is not None:
                found[f"{arm.settings['timm_model'].split('_patch')[0]}, timm"] = sizes
                break
    return found


def timm_arguments(arm: Arm) -> dict[str, Any] | None:
    """The same of a timm arm, read off the network; None where it is no plain ViT."""
    import torch
    from timm.models.vision_transformer import VisionTransformer

    from vitrail.model.timm_bridge import arguments_of

    with torch.device("meta"):
        network = build({**arm.settings, "pretrained": ""})
    return arguments_of(network) if type(network) is VisionTransformer else None


def costs_markdown(frame: pd.DataFrame) -> str:
    """The networks below one another, a part a row."""
    rows = []
    for row in frame.to_dict("records"):
        whole = row["part"] == "total"
        name = "**all**" if whole else PARTS[row["part"]]
        memory = f"{row['activation_bytes'] / 2**10:,.1f}"
        if row["activation_bytes_fused"] != row["activation_bytes"]:
            memory += f" ({row['activation_bytes_fused'] / 2**10:,.1f})"
        rows.append(
            {
                "Network": row["network"] if row["part"] == frame["part"].iloc[0] else "",
                "Part": name,
                "MACs": f"{row['macs']:,}",
                "Share": "" if not row["macs"] else share(row["share"]),
                "Parameters": f"{row['parameters']:,}",
                "Kept (KiB)": memory,
            }
        )
    return markdown_table(
        pd.DataFrame(rows),
        "Cost of one image, part by part: multiply-accumulates of a forward pass and their share, "
        "trained parameters, and what is kept for the backward pass in float32, written out (in "
        "brackets with the fused kernel where that differs). No figure is measured; tests find "
        "each in the real networks, with no difference.",
        "q7-costs",
        left=2,
    )


def share(value: float) -> str:
    """A share in per cent; one that would round to nothing says so."""
    return f"{100 * value:.1f} %" if value >= 0.0005 else "< 0.1 %"
