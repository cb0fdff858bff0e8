"""The timing step: what it writes, what it refuses, and that its meters measure."""

import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from vitrail import timing, timing_cells, timing_kinds
from vitrail.efficiency import (
    attention_macs,
    block_macs,
    count_macs,
    linear_attention_macs,
    vit_macs,
    window_attention_macs,
)
from vitrail.errors import VitrailError
from vitrail.meters import peak_mib, seconds_per_call
from vitrail.model import Block, MultiHeadSelfAttention
from vitrail.timing_settings import DEFAULTS, read_settings

CPU = torch.device("cpu")
WIDTH = {"embed_dim": 8, "num_heads": 2}
MODEL = {"img_size": 28, "in_chans": 1, "num_classes": 10} | {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}
TINY = {
    "tokens": [32, 8],
    "widths": [{"embed_dim": 8, "num_heads": 2}],
    "patch_sizes": [14, 7],
    "tokens_per_call": 64,
    "model": MODEL,
    "repeats": 4,
    "min_seconds": 1e-4,
    "max_seconds": 30.0,
    "device": "cpu",
}


def run_main(monkeypatch, params, folder):
    out, env = folder / "attention.csv", folder / "env.json"
    arguments = ["--params", params, "--out", str(out), "--log-env", str(env)]
    monkeypatch.setattr(sys, "argv", ["vitrail.timing", *arguments])
    timing.main()
    return (
        pd.read_csv(out),
        pd.read_csv(folder / "attention_samples.csv"),
        json.loads(env.read_text()),
    )


def test_the_step_writes_every_row_and_column(monkeypatch, tmp_path):
    threads = torch.get_num_threads()
    params = json.dumps(TINY | {"threads": [threads + 1, threads + 2]})
    table, samples, env = run_main(monkeypatch, params, tmp_path)
    assert torch.get_num_threads() == threads

    assert list(table.columns) == timing.COLUMNS
    table["variant"] = table["variant"].fillna("")
    samples["variant"] = samples["variant"].fillna("")
    key = ["what", "variant", "pass", "threads", "n"]
    cells = set(table[key].itertuples(index=False, name=None))
    modes, (first, more) = ("forward", "train"), (threads + 1, threads + 2)
    timed = (("attention", "naive"), ("attention", "fused"), ("block", "fused"))
    explaining = (("linear", ""), ("products", "naive"), ("products", "fused"))
    assert cells == {
        *((*what, mode, first, n) for what in timed for mode in modes for n in (8, 32)),
        *((*what, "forward", more, n) for what in timed for n in (8, 32)),
        *((*what, "forward", first, n) for what in explaining for n in (8, 32)),
        *(("attention", "linear", "forward", first, n) for n in (8, 32)),
        *(
            ("model", "fused", m, count, n)
            for m in modes
            for count in (first, more)
            for n in (5, 17)
        ),
    }
    assert len(table) == len(cells)
    assert table["reason"].isna().all()
    assert (table["repeats"] == 4).all() and (table["inner"] >= 1).all()
    assert (table["min_seconds"] > 0).all()
    told = table["what"].isin(["attention", "model"]) & (table["threads"] == first)
    assert (table.loc[told, "peak_mib"] > 0).all() and table.loc[~told, "peak_mib"].isna().all()
    assert (table["page_faults"] >= 0).all()
    assert (table["min_seconds"] <= table["q25_seconds"]).all()
    assert (table["q25_seconds"] <= table["median_seconds"]).all()
    assert (table["median_seconds"] <= table["q75_seconds"]).all()

    forward = table[(table["pass"] == "forward") & (table["threads"] == first)]
    forward = forward.set_index(["what", "variant", "n"])
    macs = forward["macs"]
    assert macs["attention", "naive", 32] == attention_macs(32, 8)
    assert macs["block", "fused", 8] == block_macs(8, 8)
    assert macs["products", "naive", 8] == macs["products", "fused", 8] == 2 * 8**2 * 8
    assert macs["linear", "", 8] == macs["block", "fused", 8] - macs["products", "fused", 8]
    assert set(forward["batch_size"] * forward.index.get_level_values("n")) == {64, 60, 51}
    matrices = 2 * 2 * 32**2 * 4 / 2**20  # logits and weights of two heads and one sequence
    assert matrices < forward.loc[("attention", "naive", 32), "peak_mib"] < 1.5 * matrices
    assert macs["model", "fused", 17] == vit_macs(**MODEL, patch_size=7)["total"]
    assert forward.loc[("model", "fused", 17), "patch_size"] == 7

    assert list(samples.columns) == timing.SAMPLE_COLUMNS
    by_cell = samples.groupby(key)
    for row in table.to_dict("records"):
        own = by_cell.get_group(tuple(row[column] for column in key))
        assert sorted(own["repeat"]) == [0, 1, 2, 3]
        assert own["seconds"].median() == pytest.approx(row["median_seconds"], rel=1e-4)

    assert {
        "hardware",
        "cores",
        "versions",
        "threads",
        "load_average",
        "load_average_after",
        "device",
    } <= set(env)
    assert env["window_size"] == timing_kinds.WINDOW_SIZE
    assert env["settings"]["tokens"] == [8, 32] and env["threads"] == first


def test_too_big_for_memory_is_a_row_with_its_reason():
    needed = 3 * 32**2 * 2 * 2 * 4 / 2**30  # three matrices, two heads, two sequences
    table, samples = timing.measure(TINY | {"repeats": 3, "memory_gib": needed * 0.99})
    skipped = table[table["reason"] != ""]
    assert set(skipped[["what", "variant", "pass", "n"]].itertuples(index=False, name=None)) == {
        ("attention", "naive", "forward", 32),
        ("attention", "naive", "train", 32),
        ("products", "naive", "forward", 32),
    }
    assert skipped["reason"].str.contains("memory_gib").all()
    assert skipped[["median_seconds", "min_seconds", "peak_mib"]].isna().all(axis=None)
    assert (skipped["repeats"] == 0).all()
    assert samples.query("variant == 'naive' and n == 32").empty
    assert table.loc[table["reason"] == "", "median_seconds"].notna().all()


def test_written_out_model_is_named_and_estimated_so():
    settings = TINY | {"model": MODEL | {"fused_attn": False}, "memory_gib": 1e-9}
    table, _ = timing.measure(settings | {"patch_sizes": [7]})
    model = table[table["what"] == "model"]
    assert set(model["variant"]) == {"naive"} and model["reason"].str.contains("GiB").all()


def attention_call(n, fused, train=False):
    module = MultiHeadSelfAttention(16, 2, fused_attn=fused)
    return timing_cells.pass_of(module, torch.randn(1, n, 16), "train" if train else "forward")


@pytest.mark.parametrize("train", [False, True])
def test_written_out_memory_is_quadratic_and_fused_is_not(train):
    peaks = {
        fused: [peak_mib(attention_call(n, fused, train), CPU) for n in (512, 2048)]
        for fused in (False, True)
    }
    assert 12 < peaks[False][1] / peaks[False][0] < 16.5  # 4 x the tokens
    assert 2 < peaks[True][1] / peaks[True][0] < 6
    two_matrices = 2 * 2 * 2048**2 * 4 / 2**20  # logits and weights of two heads
    assert peaks[False][1] > two_matrices > 5 * peaks[True][1]


def test_peak_counts_what_is_alive_together():
    def apart():
        for _ in range(10):
            torch.empty(2**18)  # 1 MiB each, one at a time

    def together():
        return [torch.empty(2**18) for _ in range(10)]

    assert peak_mib(apart, CPU) == pytest.approx(1, abs=0.01)
    assert peak_mib(together, CPU) == pytest.approx(10, abs=0.01)


FAULTS = """
import torch
from vitrail.meters import keep_freed_memory, page_faults

def faults(mebibytes=64):  # 64 MiB are 16384 pages
    before = page_faults()
    torch.ones(mebibytes * 2**18)
    return page_faults() - before

torch.set_num_threads(1)
fresh = [faults() for _ in range(3)]
assert keep_freed_memory()
for _ in range(4):
    faults(128)  # freed at once, and the next ones find their place in there
print(min(fresh), sorted(faults() for _ in range(5))[2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has this")
def test_kept_memory_is_not_fetched_again():
    # In a process of its own: what the C library was told cannot be taken back.
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert fresh > 20 * (kept + 1)


def test_seconds_are_those_of_one_call():
    calls = []

    def call():
        calls.append(time.sleep(0.004))

    assert 0.004 <= seconds_per_call(call, 5, CPU) < 0.02
    assert len(calls) == 5


def test_forward_and_train_do_what_they_say(monkeypatch):
    module = MultiHeadSelfAttention(16, 2)
    x = torch.randn(1, 5, 16)
    out = timing_cells.pass_of(module, x, "forward")()
    assert out.is_inference() and torch.equal(out, module(x))
    gradients = timing_cells.pass_of(module, x, "train")()
    assert [g.shape for g in gradients] == [x.shape, *(p.shape for p in module.parameters())]
    assert all(parameter.grad is None for parameter in module.parameters())


def cell(name, repeats, order, inner=1):
    return timing_cells.Cell(
        *(name, "fused", "forward", 1, 1, 1, 1, None, 1, 1, 0, lambda: order.append(name)),
        inner=inner,
        repeats=repeats,
    )


def test_cells_take_turns_and_few_repeats_are_spread():
    order = []
    cells = [cell("a", 6, order), cell("b", 3, order), cell("c", 0, order), cell("d", 6, order)]
    timing._sample(cells, CPU)
    assert "".join(order) == "adabd" * 3
    assert [len(one.seconds) for one in cells] == [6, 3, 0, 6]

    order = []
    timing._sample([cell("short", 1, order, inner=4)], CPU)
    assert len(order) == 1 + 4  # one untimed call first


def test_short_calls_are_repeated_and_slow_cells_get_fewer_samples():
    settings = read_settings(TINY | {"repeats": 9, "min_seconds": 0.01, "max_seconds": 0.04})
    short, slow = cell("short", 0, []), cell("slow", 0, [])
    slow.call = lambda: time.sleep(0.03)
    for one in (short, slow):
        timing._prepare(one, settings, CPU)
    assert short.inner > 100 and short.repeats >= 3
    assert (slow.inner, slow.repeats) == (1, 3)
    settings["max_seconds"] = 60.0
    timing._prepare(slow, settings, CPU)
    assert slow.repeats == 9


def test_a_machine_without_enough_memory_gives_a_reason_and_a_bug_does_not():
    settings = read_settings(TINY)
    huge, broken = cell("huge", 0, []), cell("broken", 0, [])
    huge.call = lambda: torch.empty(10**15)
    broken.call = lambda: torch.ones(2) @ torch.ones(3)
    timing._prepare(huge, settings, CPU)
    assert "out of memory" in huge.reason and huge.repeats == 0
    with pytest.raises(RuntimeError, match="size"):
        timing._prepare(broken, settings, CPU)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token": [17]}, "unknown key 'token'"),
        ({"tokens": []}, "timing.tokens"),
        ({"tokens": [17, 0]}, "timing.tokens"),
        ({"tokens": 17}, "timing.tokens"),
        ({"widths": [8]}, "timing.widths"),
        ({"widths": []}, "timing.widths"),
        ({"widths": [WIDTH | {"embed_dim": True}]}, "timing.widths"),
        ({"widths": [WIDTH | {"heads": 2}]}, "timing.widths"),
        ({"widths": [WIDTH | {"passes": ["back"]}]}, "timing.widths"),
        ({"widths": [WIDTH | {"threads": [0]}]}, "timing.widths"),
        ({"widths": [WIDTH, WIDTH]}, "timing.widths has embed_dim 8 twice"),
        ({"widths": [WIDTH | {"num_heads": 3}]}, "num_heads 3 does not divide embed_dim 8"),
        ({"passes": []}, "timing.passes"),
        ({"passes": "forward"}, "timing.passes"),
        ({"passes": [["forward"]]}, "timing.passes"),
        ({"repeats": 2}, "timing.repeats"),
        ({"threads": 1}, "timing.threads"),
        ({"threads": [1, "every"]}, "timing.threads"),
        ({"max_seconds": float("inf")}, "timing.max_seconds"),
        ({"min_seconds": "fast"}, "timing.min_seconds"),
        ({"keep_memory": 1}, "timing.keep_memory"),
        ({"device": "tpu"}, "timing.device"),
        ({"patch_sizes": [5]}, "5 of timing.patch_sizes"),
        ({"model": [1]}, "timing.model"),
        ({"model": MODEL | {"width": 16}}, "timing.model: unknown key 'width'"),
        ({"model": MODEL | {"num_heads": 3}}, "num_heads 3"),
        ({"model": MODEL | {"act": "swish"}}, "swish"),
    ],
)
def test_a_wrong_setting_is_named(change, named):
    with pytest.raises(VitrailError) as caught:
        timing.measure(TINY | change)
    assert named in str(caught.value)


def test_params_that_are_not_json(monkeypatch, tmp_path):
    with pytest.raises(VitrailError, match="--params"):
        run_main(monkeypatch, "{tokens}", tmp_path)
    with pytest.raises(VitrailError, match="mapping"):
        run_main(monkeypatch, "[1]", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(VitrailError, match=r"device is 'cuda'"):
        timing.measure(TINY | {"device": "cuda"})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_table_on_cuda():
    table, _ = timing.measure(TINY | {"device": "cuda"})
    assert (table["reason"] == "").all()
    assert (table["median_seconds"] > 0).all() and (table["peak_mib"] > 0).all()


def test_defaults_are_valid_and_settings_are_read_only_once():
    settings = read_settings({})
    assert read_settings(settings) == settings
    assert settings["tokens"] == DEFAULTS["tokens"]
    assert "patch_size" not in settings["model"]
    assert read_settings({"model": {"patch_size": 7}}) == settings
    asked = {"threads": [1, "all", 1], "widths": [WIDTH, {"embed_dim": 9, "num_heads": 3}]}
    asked["widths"][1] |= {"passes": ["forward"], "threads": [2]}
    told = read_settings(asked)
    assert told["threads"] == list(dict.fromkeys([1, os.cpu_count()]))
    assert told["widths"] == [
        WIDTH | {"passes": ["forward", "train"], "threads": told["threads"]},
        {"embed_dim": 9, "num_heads": 3, "passes": ["forward"], "threads": [2]},
    ]
    assert np.all(np.diff(settings["patch_sizes"]) > 0)


def test_linear_part_and_products_are_the_block():
    """What the two cells time apart is, put together, what the block's cell times."""
    block, x = Block(16, 2, 2.0), torch.randn(3, 7, 16)
    with torch.no_grad():
        values = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)[2]
        expected = x + block.attn.proj(values)
        expected = expected + block.mlp(block.norm2(expected))
        assert torch.equal(timing_cells.LinearPart(block)(x), expected)
        own = block.attn.split_heads(x)
        for variant in timing_kinds.VARIANTS.values():
            heads = variant.products(*own).transpose(1, 2).flatten(2)
            assert torch.allclose(block.attn.proj(heads), block.attn(x), atol=1e-6)
    macs = block_macs(7, 16, 2.0)
    assert count_macs(timing_cells.LinearPart(block), x) == 3 * (macs - 2 * 7**2 * 16)


def test_other_kinds_are_timed_forward_at_the_first_width_and_windows_where_they_tile():
    sizes = [16, 36, 48, 64, 144, 150]  # 36 is a square of 6, which windows of 4 do not tile
    widths = [WIDTH, {"embed_dim": 12, "num_heads": 2}]
    asked = {"tokens": sizes, "widths": widths, "threads": [1, 2], "patch_sizes": [14]}
    found = [
        cell
        for cell in timing_cells.cells(read_settings(TINY | asked), CPU)
        if cell.variant in timing_kinds.OTHER_KINDS
    ]
    assert {(cell.what, cell.mode, cell.threads, cell.embed_dim) for cell in found} == {
        ("attention", "forward", 1, 8)
    }
    macs = {
        kind: {c.n: c.macs for c in found if c.variant == kind} for kind in ("linear", "window")
    }
    assert macs["linear"] == {n: linear_attention_macs(n, 8, 2) for n in sizes}
    assert macs["window"] == {n: window_attention_macs(n, 8, 4) for n in (16, 64, 144)}
    for cell in found:
        assert cell.call().shape == (cell.batch_size, cell.n, 8)
        assert cell.single().shape == (1, cell.n, 8)
    for name, kind in timing_kinds.OTHER_KINDS.items():
        assert count_macs(kind.build(8, 2), torch.randn(3, 64, 8)) == 3 * macs[name][64]


def test_a_further_variant_is_one_line(monkeypatch):
    module = torch.nn.Linear(8, 8)
    own = timing_kinds.Variant(lambda d, heads: module, macs=lambda n, d: n * d**2)
    monkeypatch.setitem(timing_kinds.VARIANTS, "plain", own)
    table, _ = timing.measure(TINY | {"passes": ["forward"]})
    mine = table[table["variant"] == "plain"]
    assert set(mine["what"]) == {"attention"} and list(mine["macs"]) == [8 * 64, 32 * 64]
    assert (mine["median_seconds"] > 0).all()


def test_times_are_those_of_one_sequence():
    one = cell("slept", 0, [])
    one.call, one.batch_size, one.repeats, one.inner = lambda: time.sleep(0.02), 10, 3, 1
    timing._sample([one], CPU)
    assert all(0.002 <= seconds < 0.01 for seconds in one.seconds)


def test_each_cell_runs_with_its_own_threads():
    found, threads = [], torch.get_num_threads()
    cells = []
    for count in (threads + 1, threads + 2):
        one = cell("seen", 2, [])
        one.threads, one.call = count, lambda: found.append(torch.get_num_threads())
        cells.append(one)
    try:
        timing._sample(cells, CPU)
    finally:
        torch.set_num_threads(threads)
    assert found == [threads + 1, threads + 2] * 2
