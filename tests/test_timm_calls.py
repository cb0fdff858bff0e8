"""What timm does with MNIST's tensors (Q8a), held against a table that was checked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from vitrail.questions.answer import Answer
from vitrail.questions.transfer import calls
from vitrail.questions.transfer.call_list import CNN_CALLS, VIT_CALLS, Call

GOLDEN = Path(__file__).with_name("timm_calls.csv")
KEY = ["table", "model", "call", "tensor"]
FOUND = ["outcome", "tokens", "last_map", "unseen"]


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    unseen = frame["unseen"].astype(float).map("{:.2f}".format)
    return frame.assign(unseen=unseen)[[*KEY, *FOUND]].astype(str)


@pytest.fixture(scope="module")
def answer() -> Answer:
    result = Answer(sentence="", table=pd.DataFrame())
    calls.add(result)
    return result


def test_timm_does_what_was_checked_by_hand(answer: Answer) -> None:
    checked = pd.read_csv(GOLDEN, dtype=str, keep_default_na=False)
    made = answer.data["inputs"]
    version = made["timm"].iloc[0]
    what_to_do = (
        f"timm {version} or torch {torch.__version__} does otherwise than timm "
        f"{checked['timm'].iloc[0]} did. Look at each of these calls; put right `why` in "
        f"questions/transfer/call_list.py and what report/q8_inputs.qmd says, then {GOLDEN.name}:\n"
    )
    # Every row is asked for, once, and each is as it was.
    was = as_text(checked).set_index(KEY)[FOUND].to_dict("index")
    now = as_text(made).set_index(KEY)[FOUND].to_dict("index")
    assert len(now) == len(made)
    lines = [
        f"{', '.join(key)}:\n  was {was.get(key)}\n  now {now.get(key)}"
        for key in {**was, **now}
        if was.get(key) != now.get(key)
    ]
    assert not lines, what_to_do + "\n".join(lines)


def test_only_patches_that_do_not_tile_lose_pixels(answer: Answer) -> None:
    """The silent trap is one call, and it runs."""
    made = answer.data["inputs"]
    trap = made[made["unseen"] > 0]
    assert trap["call"].tolist() == ["img_size=28"]
    assert trap["outcome"].str.startswith("logits").all()
    assert trap["unseen"].iloc[0] == pytest.approx(1 - 16**2 / 28**2)
    assert "**67 % of the pixels change nothing**" in answer.tables["inputs"]
    assert answer.numbers["inputs"]["unseen"] == "67 %"


def test_pixels_that_are_read_do_not_count_as_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """If timm came to read them, the share would be none."""
    import timm

    net: Any = timm.create_model("vit_tiny_patch16_224", img_size=28).eval()
    assert calls.unseen_share(net, (1, 3, 28, 28)) > 0.6
    edge = net.forward

    def reads_the_edge(images: torch.Tensor) -> torch.Tensor:
        return edge(images) + images[:, :, -1, -1].sum()

    monkeypatch.setattr(net, "forward", reads_the_edge)
    assert calls.unseen_share(net, (1, 3, 28, 28)) == 0


def test_what_is_printed_is_what_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    asked: list[str] = []
    make = timm.create_model

    def spy(name: str, **arguments: Any) -> Any:
        assert arguments.pop("pretrained") is False
        asked.append(", ".join(f"{key}={value!r}" for key, value in arguments.items()))
        return make("test_vit" if name.startswith("vit") else "test_resnet", **arguments)

    monkeypatch.setattr(timm, "create_model", spy)
    for call in VIT_CALLS + CNN_CALLS:
        calls.built.cache_clear()
        calls.attempt(call)
        if call.model not in calls.OWN:
            assert asked.pop() == ("" if call.after else call.code)
    assert not asked
    calls.built.cache_clear()


def test_an_exception_of_any_kind_is_an_outcome() -> None:
    found = calls.attempt(Call((1, 1, 28, 28), "", {"no_such": 1}, model="test_vit"))
    assert found["outcome"].startswith("TypeError: ")
    assert "no_such" in found["outcome"]
    assert found["tokens"] == ""
    assert calls.happened(found) == f"`{found['outcome']}`"


def test_tables_have_a_row_for_each_call(answer: Answer) -> None:
    for name, listed in (("inputs", VIT_CALLS), ("inputs_cnn", CNN_CALLS)):
        rows = [line for line in answer.tables[name].splitlines() if line.startswith("| ")]
        assert len(rows) == len(listed) + 2
        for row, call in zip(rows[2:], listed, strict=True):
            assert row.endswith(f"| {call.why} |")
            assert call.code in row
    for name in ("inputs", "inputs_cnn"):
        assert answer.tables[name].rstrip().endswith(' tbl-colwidths="[29,15,31,25]"}')
    assert "| 197 tokens; logits 1 × 1000 |" in answer.tables["inputs"]
    assert "| last map 1 × 1; `RuntimeError: " in answer.tables["inputs_cnn"]
