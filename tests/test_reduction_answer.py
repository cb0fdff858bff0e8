"""What Q7 says of token reduction, on made tables: words, verdicts, figures."""

import numpy as np
import pandas as pd
import pytest

from vitrail.questions.complexity import reduction
from vitrail.reduction.compare import COLUMNS

FACTS = {
    "hardware": "a processor",
    "load_average": 0.1,
    "images": 20000,
    "test_images": 5000,
    "run": "vit-s0",
}


def made(ltmp=((75, 0.752, 0.979), (50, 0.503, 0.976)), by_class=((50, 0.501, 0.9775),)):
    """ToMe and pruning lose evenly, LTMP as given: (target, ratio, accuracy)."""
    rows = [("none", 0, 1.0, 0.98)]
    rows += [("tome", r, 1 - 0.06 * r, 0.98 - 0.004 * r) for r in (4, 8, 12)]
    rows += [("prune", r, 1 - 0.06 * r, 0.98 - 0.001 * r) for r in (4, 8, 12)]
    rows += [("ltmp", *one) for one in ltmp] + [("ltmp_class", *one) for one in by_class]
    frame = pd.DataFrame(rows, columns=["way", "setting", "macs_ratio", "test_accuracy"])
    frame["difference"] = frame["test_accuracy"] - 0.98
    frame["difference_half_width"] = 0.0005
    frame["images_per_second"] = 1000 / frame["macs_ratio"]
    frame["images_per_second_one"] = 500.0
    frame["tokens_left"] = "50.00 40.00"
    return frame.reindex(columns=COLUMNS)


def marks(table):
    """Who gets which of 10,000 images right, errors nested: the last images are the hard ones."""
    wanted = (10_000 * table["test_accuracy"]).round().to_numpy()
    return np.arange(10_000)[None, :] < wanted[:, None]


def verdicts(table):
    return {claim.id: claim.verdict for claim in reduction.claims(table, marks(table))}


def test_verdicts_follow_the_table():
    found = verdicts(made(ltmp=((75, 0.752, 0.9795), (50, 0.503, 0.976))))
    assert found == {
        "q7-ltmp-meets-its-budget": "supported",
        "q7-ltmp-loses-little-at-75": "supported",
        "q7-ltmp-loses-little-at-50": "supported",
        "q7-ltmp-beats-tome": "supported",
        "q7-ltmp-beats-prune": "supported",
        "q7-class-token-knows-better": "supported",
    }
    worse = verdicts(made(ltmp=((75, 0.78, 0.97), (50, 0.503, 0.96)), by_class=()))
    assert worse["q7-ltmp-meets-its-budget"] == "refuted"  # 0.78 is 0.03 off
    assert worse["q7-ltmp-loses-little-at-75"] == "refuted"
    assert worse["q7-ltmp-beats-prune"] == "refuted"  # r = 8 has 0.972 with 0.52 of the MACs
    assert worse["q7-class-token-knows-better"] == "undecided"


def test_a_network_above_its_budget_shows_nothing_by_losing_little():
    idle = verdicts(made(ltmp=((75, 1.0, 0.98),)))  # no token removed, nothing lost
    assert idle["q7-ltmp-loses-little-at-75"] == "undecided"


def test_only_settings_that_were_run_decide():
    """Better than what has fewer MACs and worse than what has more decides nothing."""
    between = verdicts(made(ltmp=((40, 0.4, 0.9705),)))  # pruning: 0.972 at 0.52, 0.968 at 0.28
    assert between["q7-ltmp-beats-prune"] == "undecided"
    equal = verdicts(made(ltmp=((50, 0.51, 0.97205),)))  # half an image more than r = 8
    assert equal["q7-ltmp-beats-prune"] == "undecided"


def test_without_targets_nothing_is_asserted_and_all_numbers_are_there():
    table = made(ltmp=(), by_class=())
    assert set(verdicts(table).values()) == {"undecided"}
    assert reduction.numbers(table, FACTS).keys() == reduction.numbers(made(), FACTS).keys()
    assert reduction.numbers(table, FACTS)["speed"] == "not run"


def test_numbers_are_those_of_the_most_saving_target():
    found = reduction.numbers(made(), FACTS)
    assert found["plain"] == "98.00 %"
    assert found["target"] == "50 %"
    assert found["ratio"] == "0.503"
    assert found["speed"] == "1.99"  # 1 / 0.503
    assert found["speed_one"] == "1.00"


def test_the_table_has_every_row_and_says_what_differs():
    printed = reduction.table_markdown(made(), FACTS)
    for words in ("all tokens", "ToMe, r = 12", "pruning, r = 4", "LTMP, target 75 %"):
        assert printed.count(f"| {words} |") == 1
    assert "LTMP by class token, target 50 %" in printed
    assert "\N{MINUS SIGN}0.40 ± 0.05" in printed
    assert "5,000 test images; a processor" in printed


def test_pictures_cross_what_is_pruned_and_colour_what_is_merged(tmp_path):
    import matplotlib.pyplot as plt

    owners = np.arange(50)
    owners[10:20] = -1
    owners[30:33] = 30
    folder = tmp_path / "reduction"
    folder.mkdir()
    np.savez(
        folder / "pictures.npz",
        images=np.zeros((2, 28, 28), dtype=np.uint8),
        labels=np.array([0, 1]),
        ltmp_owners=np.tile(owners, (4, 2, 1)),
        ltmp_predicted=np.array([0, 7]),
        ltmp_setting=np.array(50),
    )
    drawing = reduction.draw_pictures(tmp_path)
    first, second = drawing.axes
    boxes = first.patches
    assert len(boxes) == 49
    assert sum(bool(box.get_hatch()) for box in boxes) == 10
    coloured = [box for box in boxes if box.get_alpha() == pytest.approx(0.45)]
    assert len(coloured) == 3
    assert len({box.get_facecolor() for box in coloured}) == 1
    assert "read as 7" in second.get_title()
    plt.close(drawing)


def test_curves_start_at_all_tokens():
    import matplotlib.pyplot as plt

    drawing = reduction.draw_curves(made())
    left, right = drawing.axes
    assert len(left.lines) == 4
    for line in left.lines:
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (1.0, 98.0)
    for line in right.lines:
        assert line.get_xdata()[0] == 1.0
    plt.close(drawing)
