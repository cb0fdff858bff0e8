"""Q8a: what timm's networks do with tensors of MNIST's shape, tried when the report is made."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.transfer.call_list import (
    CNN_CALLS,
    NAMES,
    OWN,
    VIT,
    VIT_CALLS,
    Call,
    Shape,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

Row = dict[Any, Any]
DASH = "\N{EM DASH}"
TIMES = " \N{MULTIPLICATION SIGN} "


@lru_cache(maxsize=1)  # calls of the same network follow each other; two of VGG are a gigabyte
def built(model: str, arguments: tuple[tuple[str, Any], ...], after: Any) -> nn.Module:
    """The network of a call, in evaluation mode, from random weights."""
    import timm

    if model in OWN:
        return OWN[model]().eval()
    net: nn.Module = timm.create_model(model, pretrained=False, **dict(arguments))
    if after:
        after[1](net)
    return net.eval()


def attempt(call: Call) -> dict[str, Any]:
    """Make a call: outcome, tokens of the first block, last map of a convolution, unseen share."""
    import torch
    from torch import nn

    seen: dict[str, Any] = {"tokens": "", "last_map": "", "unseen": 0.0}

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen["tokens"] = str(inputs[0].shape[1])

    def measure(_: nn.Module, __: Any, out: Tensor) -> None:
        seen["last_map"] = TIMES.join(map(str, out.shape[2:]))

    hooks: list[Any] = []
    torch.manual_seed(0)
    try:
        net: Any = built(call.model, tuple(call.arguments.items()), call.after)
        if hasattr(net, "blocks") and call.model == VIT:
            hooks.append(net.blocks[0].register_forward_pre_hook(count))
        else:
            convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
            hooks += [part.register_forward_hook(measure) for part in convolutions]
        with torch.inference_mode():
            logits = net(torch.zeros(call.shape))
            seen["unseen"] = unseen_share(net, call.shape) if call.model == VIT else 0.0
        outcome = f"logits {TIMES.join(map(str, logits.shape))}"
    except Exception as error:  # the exception is the result here
        outcome = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    finally:
        for hook in hooks:
            hook.remove()
    return {"outcome": outcome, **seen}


def unseen_share(net: Any, shape: Shape) -> float:
    """Share of the pixels that change no bit of the logits, tried with random ones.

    They are those beyond the last whole patch, at the right and at the lower edge.
    """
    import torch

    embed = net.patch_embed
    rows, columns = (n * p for n, p in zip(embed.grid_size, embed.patch_size, strict=True))
    if rows >= shape[2] and columns >= shape[3]:
        return 0.0
    images = torch.rand(shape)
    changed = torch.rand(shape)
    changed[:, :, :rows, :columns] = images[:, :, :rows, :columns]
    same = torch.equal(net(images), net(changed))
    return 1 - rows * columns / (shape[2] * shape[3]) if same else 0.0


def call_table() -> pd.DataFrame:
    """Make all calls: a row for each.

    Columns: table (vit or cnn), model, call, tensor, outcome, tokens, last_map, unseen (share
    of the pixels, 0 to 1), why, timm (its version).
    """
    import timm

    rows = [
        {
            "table": table,
            "model": call.model,
            "call": call.code,
            "tensor": TIMES.join(map(str, call.shape[1:])),
            **attempt(call),
            "why": call.why,
            "timm": timm.__version__,
        }
        for table, calls in (("vit", VIT_CALLS), ("cnn", CNN_CALLS))
        for call in calls
    ]
    built.cache_clear()
    return pd.DataFrame(rows)


def coded(text: str) -> str:
    """Code for Markdown, a dash when there is none."""
    return f"`{text}`" if text else DASH


def happened(row: Row) -> str:
    """The outcome for print: exceptions as code, what was seen, and pixels that are not read."""
    failed = "Error: " in row["outcome"]
    parts = [f"{row['tokens']} tokens"] if row["tokens"] else []
    parts += [f"last map {row['last_map']}"] if row["last_map"] else []
    parts += [f"**{100 * row['unseen']:.0f} % of the pixels change nothing**"] * bool(row["unseen"])
    return "; ".join([*parts, coded(row["outcome"]) if failed else row["outcome"]])


def tabled(calls: pd.DataFrame, table: str, what: str, caption: str, label: str) -> str:
    """One of the two tables for print, in columns that fit a page and a phone."""
    printed = pd.DataFrame(
        {
            what: called(row),
            "Image": row["tensor"],
            "What happens": happened(row),
            "Why": row["why"],
        }
        for row in calls[calls["table"] == table].to_dict("records")
    )
    return markdown_table(printed, caption, label, left=4, widths=(29, 15, 31, 25))


def called(row: Row) -> str:
    """What is called: the arguments for ViT-S, the network with its arguments for CNNs."""
    names = [] if row["model"] == VIT else [row["model"]]
    return NAMES.get(row["model"], coded(", ".join([*names, *filter(None, [row["call"]])])))


def vit_markdown(calls: pd.DataFrame) -> str:
    """The calls of ViT-S."""
    caption = (
        f"`timm.create_model('{VIT}', ...)` of timm {calls['timm'].iloc[0]} with random weights, "
        "given one image: channels × height × width. What starts with a dot is done to the model "
        "afterwards. All calls were made when this report was."
    )
    return tabled(calls, "vit", "Arguments", caption, "q8-inputs")


def cnn_markdown(calls: pd.DataFrame) -> str:
    """The calls of the CNNs."""
    caption = (
        "The same with CNNs of timm, and with two small ones that differ in their head alone. The "
        "last map is that of the last convolution that ran."
    )
    return tabled(calls, "cnn", "Network", caption, "q8-inputs-cnn")


def add(result: Answer) -> None:
    """Both tables, and the numbers of the silent trap."""
    calls = call_table()
    result.data["inputs"] = calls
    made = "calls of timm made for the table"
    result.tabulate("inputs", vit_markdown, calls, data="inputs", runs=made)
    result.tabulate("inputs_cnn", cnn_markdown, calls, data="inputs", runs=made)
    trap = calls[calls["unseen"] > 0]
    result.numbers["inputs"] = {
        "unseen": f"{100 * trap['unseen'].max():.0f} %" if len(trap) else "none",
    }
