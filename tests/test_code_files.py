"""The lists of source files that decide a training name all that it imports."""

from __future__ import annotations

import ast

import pytest

from vitrail import code_files

# Imported, and without a say in the outcome.
HARMLESS = {
    "__init__.py": "the version",
    "code_files.py": "the lists themselves",
    "cost.py": "tells seconds",
    "errors.py": "words",
    "gpus.py": "which GPU is computed on, not what",
    "machine.py": "words",
    "intact.py": "whether files are as they were written, not what is in them",
    "files.py": "how files are written, not what",
    "outside.py": "what the steps may tell and ask outside",
    "packaged.py": "finds ImageNet weights, which their checksum stands for",
    "run_lock.py": "who is at work, not on what",
    "slurm.py": "when jobs end early, not what they do",
    "watch.py": "when a step ends early, not what it does",
    "web.py": "finds ImageNet weights, which their checksum stands for",
}


def imported(start: str) -> set[str]:
    """Files of the package that one imports, at any depth, also within functions."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        found.add(name)
        tree = ast.parse((code_files.PACKAGE / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitrail"):
                module = str(node.module).partition("vitrail")[2].strip(".").replace(".", "/")
                members = [f"{module}/{alias.name}".strip("/") for alias in node.names]
                for stem in (module, *members):
                    for path in (f"{stem}.py", f"{stem}/__init__.py".strip("/")):
                        if (code_files.PACKAGE / path).is_file() and path not in found:
                            waiting.append(path)
    return found


@pytest.mark.parametrize(
    ("start", "patterns"),
    [
        ("train.py", code_files.TRAIN),
        ("pretraining/__main__.py", code_files.PRETRAIN),
    ],
)
def test_lists_name_all_that_is_imported(start: str, patterns: tuple[str, ...]) -> None:
    """Else a state would be gone on from by other code than that which made it."""
    files = code_files.files([*patterns, *code_files.READING])
    named = {path.relative_to(code_files.PACKAGE).as_posix() for path in files}
    reached = imported(start)
    assert {"resume.py", "optimizers.py", "model/attention.py"} <= reached
    assert reached - named <= set(HARMLESS)


def test_patterns_name_files() -> None:
    for pattern in {*code_files.TRAIN, *code_files.PRETRAIN, *code_files.READING}:
        assert code_files.files([pattern]), pattern
