"""The data of the interactive views, and how they come into the page."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from made_report import RENDERS
from made_study import experiment, small, table_of, write_runs
from made_views import make_project
from vitrail import data
from vitrail.errors import VitrailError
from vitrail.questions import explore
from vitrail.questions.answer import Answer
from vitrail.questions.complexity.reduction import loss_words
from vitrail.questions.experiments import effects as effects_table
from vitrail.questions.explore import attention as attention_view
from vitrail.questions.explore import effects as effects_view
from vitrail.questions.explore import reduction as reduction_view
from vitrail.questions.study import Study
from vitrail.report import quarto
from vitrail.report.explore import as_script, script_of, views_asked, write_page_part
from vitrail.report.render import Route, render
from vitrail.report.source import Text
from vitrail.report.stage import stage
from vitrail.views import VIEWS, views_of

ROOT = Path(__file__).parents[1]


def unpacked(text: str, kind: str = "<u2") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


# --- Data


@pytest.fixture
def study(config: Any, mnist: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Untrained networks of two blocks on 4 x 4 patches, in the folder of a study."""
    monkeypatch.setattr(data, "load_mnist", lambda folder, verify: mnist)
    small(config, "q4_multi_head")
    config["defaults"] |= {"patch_size": 7, "depth": 2}
    made = Study(config, tmp_path)
    write_runs(made, lambda *_: 0.9)
    return made


def first_digits(study: Study) -> tuple[Any, Any]:
    """The base network of the first seed and the digits that the views show."""
    return study.network(study.plan.base), study.images(10, study.plan.base)[0]


def test_attention_is_what_the_network_computes(study: Study) -> None:
    import torch

    found = attention_view.attention(study)
    assert found is not None and json.loads(json.dumps(found)) == found
    network, images = first_digits(study)
    maps = torch.stack(network.attention_maps(images), dim=1).numpy()
    weights = unpacked(found["weights"]).reshape(maps.shape) / attention_view.WHOLE
    assert maps.shape == (10, found["blocks"], found["heads"], found["tokens"], found["tokens"])
    assert maps.shape[1:] == (2, 2, 17, 17) and found["prefix"] == 1
    step = 1 / attention_view.WHOLE
    assert np.abs(weights - maps).max() <= 0.5 * step + 1e-7
    assert np.abs(weights.sum(axis=-1) - 1).max() <= 17 * 0.5 * step + 1e-6
    assert found["top"] == pytest.approx(maps.max(), abs=1e-4)
    with torch.no_grad():
        assert found["read"] == network(images).argmax(dim=1).tolist()
    shown = unpacked(found["images"], "u1").reshape(10, 28, 28)
    places = [int(np.flatnonzero(study.mnist.test_labels == d)[0]) for d in found["labels"]]
    assert (shown == study.mnist.test_images[places]).all()


def test_attention_keeps_the_digits_that_fit(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    one = 2 * 2 * 2 * 17 * 17  # bytes of a digit's tables
    monkeypatch.setattr(attention_view, "BUDGET", 3 * one + 1)
    found = attention_view.attention(study)
    assert found is not None and found["labels"] == [0, 1, 2] and len(found["read"]) == 3
    assert unpacked(found["weights"]).size == 3 * one / 2
    monkeypatch.setattr(attention_view, "BUDGET", one - 1)
    assert attention_view.attention(study) is None


def test_attention_without_a_class_token(
    config: Any, mnist: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load_mnist", lambda folder, verify: mnist)
    small(config, "q4_multi_head")
    config["defaults"] |= {"class_token": False, "global_pool": "avg"}
    study = Study(config, tmp_path)
    write_runs(study, lambda *_: 0.9)
    found = attention_view.attention(study)
    assert found is not None and (found["prefix"], found["tokens"]) == (0, 4)


def test_colours_are_those_of_the_printed_maps() -> None:
    import matplotlib as mpl

    from vitrail import style

    colours = unpacked(attention_view.heat_colours(), "u1").reshape(256, 3)
    for index in (0, 100, 255):
        assert tuple(colours[index]) == mpl.colormaps[style.HEAT](index, bytes=True)[:3]


def test_roots_are_the_first_patches_of_their_tokens() -> None:
    owners = np.array([[3, 5, 3, -1, 5, 9, -1]])  # places, as they come out of a block
    gone = reduction_view.GONE
    assert reduction_view.roots_of(owners).tolist() == [[0, 1, 0, gone, 1, 5, gone]]


@pytest.fixture
def reduced_study(study: Study) -> Study:
    """The base ViT compared under every way, as the step `vitrail.reduction compare` does it."""
    import torch

    from vitrail.reduction.compare import compare, entries
    from vitrail.reduction.ways import Threshold

    network, images = first_digits(study)
    folder = study.folder / "reduction"
    folder.mkdir()
    learned = {}
    for way, importance in (("ltmp", "received"), ("ltmp_class", "class")):
        pair = {"merge": [0.95, 0.9], "prune": [0.03, 0.05], "importance": importance}
        (folder / f"thresholds_{importance}_50.json").write_text(json.dumps(pair))
        learned[way, 50] = Threshold((0.95, 0.9), (0.03, 0.05), importance)  # type: ignore[arg-type]
    labels = torch.arange(10)
    table, _ = compare(network, entries([2, 5], learned), images, labels, timed=10)
    table.to_csv(folder / "table.csv", index=False)
    run = study.run_folder(study.plan.base, study.plan.seeds[0]).name
    (folder / "env.json").write_text(json.dumps({"run": run}))
    return study


def test_tokens_go_where_the_reduction_puts_them(reduced_study: Study) -> None:
    from vitrail.reduction.network import reduced

    found = reduction_view.reduction(reduced_study)
    assert found is not None and json.loads(json.dumps(found)) == found
    table = pd.read_csv(reduced_study.folder / "reduction" / "table.csv")
    names = [(one["way"], one["setting"]) for one in found["settings"]]
    assert names == [
        ("none", "all tokens"), ("tome", "r = 2"), ("tome", "r = 5"), ("prune", "r = 2"),
        ("prune", "r = 5"), ("ltmp", "target 50 %"), ("ltmp_class", "target 50 %"),
    ]  # fmt: skip
    network, images = first_digits(reduced_study)
    roots = unpacked(found["roots"]).reshape(7, 10, 2, 16)
    dropped = merged = 0
    for place, row in enumerate(table.to_dict("records")):
        way = reduction_view.way_of(row, reduced_study.folder / "reduction")
        passed = reduced(network, images, way, follow=True)
        assert passed.owners is not None
        owners = passed.owners[..., 1:].numpy().swapaxes(0, 1)  # (digits, blocks, patches)
        mine = roots[place]
        gone = mine == reduction_view.GONE
        assert (gone == (owners < 0)).all()
        together = (mine[..., :, None] == mine[..., None, :]) & ~gone[..., None]
        expected = (owners[..., :, None] == owners[..., None, :]) & (owners >= 0)[..., None]
        assert (together == expected).all()
        for digit, block in np.ndindex(10, 2):
            left = {root for root in mine[digit, block] if root != reduction_view.GONE}
            assert len(left) + 1 == passed.left[block, digit]  # the class token is always there
        shown = found["settings"][place]
        assert shown["read"] == passed.logits.argmax(dim=1).tolist()
        assert shown["accuracy"] == f"{100 * row['test_accuracy']:.2f} %"
        assert shown["difference"] == loss_words(row)
        assert shown["macs_ratio"] == pytest.approx(row["macs_ratio"], abs=1e-4)
        dropped += gone.sum()
        merged += (expected.sum(axis=-1) > 1).sum()
    assert dropped and merged


def test_tokens_that_are_too_many_for_a_page(
    reduced_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction_view, "BUDGET", 2 * 7 * 2 * 16 * 4)
    found = reduction_view.reduction(reduced_study)
    assert found is not None and found["labels"] == [0, 1, 2, 3]
    assert unpacked(found["roots"]).size == 7 * 4 * 2 * 16
    monkeypatch.setattr(reduction_view, "BUDGET", 1)
    assert reduction_view.reduction(reduced_study) is None


def test_effects_are_those_of_the_table(config: Any) -> None:
    kinds = experiment(vary={"norm": ["pre", "post"]})
    deep = experiment(vary={"depth": [3, 2]}, reference="2")
    small(config, "q6_vit", norm=kinds, depth=deep)
    values = {
        "norm": {"pre": {0: 0.90, 1: 0.91, 2: 0.92}, "post": {0: 0.80, 1: 0.815, 2: 0.82}},
        "depth": {"2": 0.9, "3": {0: 0.91, 1: 0.92, 2: 0.93}},
    }
    study = table_of(config, "q6_vit", values)
    table = effects_table.effects(study, "q6_vit")
    found = effects_view.effects(study, "q6_vit", table)
    assert found is not None and json.loads(json.dumps(found, allow_nan=False)) == found
    assert [one["label"] for one in found["arms"]] == table["label"].tolist()
    for arm, row in zip(found["arms"], table.to_dict("records"), strict=True):
        assert arm["difference"] == pytest.approx(100 * row["difference"], abs=1e-4)
        assert arm["half_width"] == pytest.approx(100 * row["half_width"], abs=1e-4)
        gaps = [seed["accuracy"] - seed["standard"] for seed in arm["seeds"]]
        assert np.mean(gaps) == pytest.approx(arm["difference"], abs=1e-3)
        assert arm["clear"] == (abs(row["difference"]) > row["half_width"])
    post = next(arm for arm in found["arms"] if arm["experiment"] == "norm")
    assert [seed["seed"] for seed in post["seeds"]] == [0, 1, 2]
    assert post["accuracy"].startswith("81.17 % ± ") and post["standard"].startswith("91.00 % ± ")
    assert post["clear"] and post["text"].startswith("\N{MINUS SIGN}9.83 ± ")
    assert [one["name"] for one in found["experiments"]] == list(dict.fromkeys(table["experiment"]))
    assert effects_view.effects(study, "q6_vit", table.iloc[:0]) is None


def test_saved_data_are_compact_and_of_this_config_alone(tmp_path: Path) -> None:
    answer = Answer("x", pd.DataFrame({"a": [1]}), explore={"attention": {"b": [1, 2], "a": None}})
    answer.save(tmp_path)
    file = tmp_path / "explore" / "attention.json"
    assert file.read_text() == '{"a":null,"b":[1,2]}\n'
    answer.explore = {"effects": None}
    answer.save(tmp_path)
    assert [file.name for file in (tmp_path / "explore").iterdir()] == ["effects.json"]
    answer.explore = {"effects": {"gap": float("nan")}}
    with pytest.raises(ValueError, match="JSON compliant"):
        answer.save(tmp_path)


def test_numbers_are_packed_low_byte_first() -> None:
    assert base64.b64decode(explore.packed(np.array([1, 515], dtype=">u2"))) == b"\1\0\3\2"


# --- Into the page


def text_of(*lines: str) -> Text:
    return Text([*lines], [("a.qmd", number) for number in range(1, len(lines) + 1)])


def test_views_are_found_with_their_places() -> None:
    text = text_of(
        '::: {.explore view="effects"}', "::::: {#x view='attention' .explore}",
        "::: {.explore view=effects}", "::: {.explored}", "a .explore", ":::",
    )  # fmt: skip
    assert views_asked(text) == {"effects": "a.qmd:1", "attention": "a.qmd:2"}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('::: {.explore view="attentoin"}', "'attentoin'"),
        ("::: {.explore}", "''"),
        ('::: {.explore preview="effects"}', "''"),
    ],
)
def test_unknown_view_is_named_with_its_place(line: str, named: str) -> None:
    with pytest.raises(VitrailError, match=rf"a\.qmd:2: .*{named}.*attention, effects, reduction"):
        views_asked(text_of("", line))


def test_data_cannot_end_the_script_that_they_stand_in() -> None:
    content = {"label": "</script><script>alert(1)</script><!-- 3 < 4 & é"}
    text = as_script(content)
    assert "<" not in text and json.loads(text) == content


def test_script_that_would_end_itself_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "report" / "explore", tmp_path / "explore")
    assert "views.effects" in script_of(["effects"], tmp_path / "explore")
    with (tmp_path / "explore" / "start.js").open("a") as stream:
        stream.write("// </SCRIPT >\n")
    with pytest.raises(VitrailError, match="script"):
        script_of(["effects"], tmp_path / "explore")


def test_every_view_has_a_script_and_a_place_in_the_text() -> None:
    made = (ROOT / "src/vitrail/questions/experiments/effects.py").read_text("utf-8")
    chapters = "".join(file.read_text("utf-8") for file in (ROOT / "report").glob("*.qmd"))
    for view in VIEWS:
        script = ROOT / "report" / "explore" / f"{view}.js"
        assert f"views.{view} = (" in script.read_text("utf-8")
        assert f'.explore view="{view}"' in chapters + made
    assert views_of("q6_vit") == ["effects"] and views_of("q1_patch_embedding") == []


def test_missing_data_are_named_with_the_question_that_makes_them(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "results/tiny/q6_vit/explore/effects.json").unlink()
    with pytest.raises(VitrailError, match=r"report\.qmd:\d+: .*'effects' has no data.*q6_vit"):
        render("tiny", project / "results", project / "report", project, "builtin", ())


def test_nothing_to_explore_leaves_the_figure_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "results/tiny/q6_vit/explore/effects.json").write_text("null\n")
    build = stage("tiny", project / "results", project / "report", project)
    asked = text_of('::: {.explore view="effects"}')
    write_page_part(build, asked)
    assert (build / "explore.html").read_text() == ""
    asked.lines[0] = '::: {.explore view="attention"}'
    write_page_part(build, asked)
    part = (build / "explore.html").read_text()
    assert "views.attention" in part and "views.effects" not in part
    assert part.count("<script") == part.count("</script>") == 2


def page_of(project: Path) -> str:
    render("tiny", project / "results", project / "report", project, "builtin", ())
    return (project / "results" / "tiny" / "report" / "report.html").read_text()


@RENDERS
def test_page_has_the_views_it_asks_for(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    html = page_of(project)
    for view, stem in VIEWS.items():
        assert f'<div class="explore" data-view="{view}">' in html
        found = re.search(
            rf'<script type="application/json" id="explore-{view}">(.*?)</script>', html
        )
        saved = project / "results" / "tiny" / stem / "explore" / f"{view}.json"
        assert found and json.loads(found[1]) == json.loads(saved.read_text())
    assert html.count("<script") == 4 and ".x-live {" in html
    assert "Figure 3. </span>" in html.replace("\u00a0", " ") or "Figure\u00a03." in html
    assert page_of(project) == html


@RENDERS
def test_page_without_views_has_no_script(tmp_path: Path) -> None:
    assert "<script" not in page_of(make_project(tmp_path, views=()))


@RENDERS
def test_pdf_has_the_printed_figure(tmp_path: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler) is not installed")
    project = make_project(tmp_path, views=("effects",))
    page_of(project)
    typ = (project / "results/tiny/report_build/report.typ").read_text()
    assert "image(" in typ and "explore" not in typ.split("= A chapter")[1]
    pdf = project / "results/tiny/report/report.pdf"
    words = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True)
    assert "Figure 1. The printed effects." in " ".join(words.stdout.split()).replace("\u00a0", " ")


@RENDERS
@pytest.mark.parametrize("attributes", [".answer view=effects", ".explore view=effects foo=1"])
def test_attributes_that_mean_nothing_are_refused(tmp_path: Path, attributes: str) -> None:
    project = make_project(tmp_path, views=())
    with (project / "report" / "report.qmd").open("a") as stream:
        stream.write(f"\n::: {{{attributes}}}\nx\n:::\n")
    with pytest.raises(VitrailError, match=r"report\.qmd:11: .*(view|foo)'"):
        page_of(project)


def test_quarto_gets_the_same_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Quarto is called, what `_quarto.yml` puts into the page is there and filled."""
    project = make_project(tmp_path)
    seen = {}

    def called(build: Path, *_: Any) -> None:
        settings = yaml.safe_load((build / "_quarto.yml").read_text())["format"]["html"]
        assert (build / "explore/explore.css").is_file()
        assert "explore/explore.css" in settings["css"]
        seen["part"] = (build / settings["include-after-body"]).read_text()
        raise VitrailError("far enough")

    monkeypatch.setattr(quarto, "render_quarto", called)
    route = Route("quarto", "Quarto 1.6", "quarto")
    monkeypatch.setattr("vitrail.report.render.choose_route", lambda wish: route)
    with pytest.raises(VitrailError, match="far enough"):
        render("tiny", project / "results", project / "report", project, "quarto", ())
    for view in VIEWS:
        assert f'id="explore-{view}"' in seen["part"] and f"views.{view} = (" in seen["part"]


@RENDERS
@pytest.mark.parametrize("to", ["html", "typst"])
def test_quarto_filter_knows_the_views(to: str) -> None:
    from vitrail.report.builtin import find_pandoc

    done = subprocess.run(
        [str(find_pandoc()), f"--to={to}", f"--lua-filter={ROOT / 'report' / 'quarto.lua'}"],
        input='::: {.explore view="effects"}\nInside.\n:::\n',
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if to == "html":
        assert '<div class="explore" data-view="effects">' in done.stdout
    else:
        assert done.stdout.strip() == "Inside."
