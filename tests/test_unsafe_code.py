"""No way from a file or a config value to running code: refused by the lint, and looked for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from vitrail import config_file

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

# Each line alone has to stop `ruff check` with the settings of pyproject.toml.
REFUSED = {
    'import os\nos.system("ls")': "S605",
    'import subprocess\nsubprocess.run("ls " + __file__, shell=True)': "S602",
    "import pickle": "TID251",
    "import joblib": "TID251",
    "from torch import hub": "TID251",
    'import pandas as pd\npd.read_pickle("x")': "S301",
    'import yaml\nyaml.load(open("x"))': "S506",
    'eval("1")': "S307",
    'exec("1")': "S102",
    'import tarfile\ntarfile.open("x").extractall()': "S202",
    "import marshal\nmarshal.loads(b'')": "S302",
}


@pytest.mark.parametrize("code", REFUSED)
def test_the_lint_refuses_what_runs_code(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", "src/vitrail/new.py", "-"],
        input=code, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No module named" in done.stderr:
        pytest.skip("ruff is not installed")
    assert REFUSED[code] in done.stdout, done.stdout + done.stderr


def test_every_exception_from_that_says_why() -> None:
    found = [
        (path.name, line.strip())
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"noqa: *(S|TID)", line)
    ]
    allowed = {"checkpoint.py", "config.py", "config_file.py", "pictures.py", "store.py", "web.py"}
    assert {name for name, _ in found} <= allowed
    codes = {code for _, line in found for code in re.findall(r"\b(?:S|TID)\d+", line)}
    # The name of an error; addresses that were looked at; loaders made from SafeLoader.
    assert codes <= {"TID251", "S310", "S506"}
    assert issubclass(
        config_file._Plain, yaml.SafeLoader | getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


def calls(name: str) -> Iterator[tuple[Path, dict[str, object]]]:
    """Keyword arguments of the calls of a function, by the last two parts of its name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield (
                    path,
                    {keyword.arg or "**": ast.unparse(keyword.value) for keyword in node.keywords},
                )


def test_weights_are_read_without_pickle() -> None:
    """ruff has no rule for these two."""
    loads = list(calls("torch.load"))
    assert loads, "torch.load is called otherwise now"
    for path, options in loads:
        assert options.get("weights_only") == "True", path
    arrays = list(calls("np.load"))
    assert arrays
    for path, options in arrays:
        assert options.get("allow_pickle", "False") == "False" and "**" not in options, path


def test_no_other_name_for_the_two() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"from (torch|numpy) import (\w+, )*load\b", text), path
        assert not re.search(r"torch\.jit\.load|torch\.package|allow_pickle=True", text), path


def test_rules_use_no_python_of_their_own() -> None:
    """`run:` and `script:` blocks would read the config in Snakemake's process."""
    for file in [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s+(run|script|notebook|wrapper):", text, re.MULTILINE), file
        assert not re.search(r"\b(eval|exec|os\.system|popen)\s*\(", text), file
