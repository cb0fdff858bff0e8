"""The sources: each one cited, each citation in the bibliography, each entry with its link."""

from __future__ import annotations

import re
import subprocess
from importlib import util

import pytest

from made_report import ROOT
from vitrail.report.builtin import find_pandoc

REPORT = ROOT / "report"
BIBLIOGRAPHY = (REPORT / "references.bib").read_text()
KEYS = re.findall(r"^@\w+\{([\w]+),", BIBLIOGRAPHY, re.MULTILINE)
needs_pandoc = pytest.mark.skipif(
    not util.find_spec("pypandoc"), reason="the wheel pypandoc_binary is not installed"
)


def cited() -> set[str]:
    """Keys cited in the chapters and in the text that the questions write."""
    files = [*REPORT.glob("*.qmd"), *(ROOT / "src" / "vitrail").rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    found = re.findall(r"(?<![\w.])@(\w+)", text)
    return {key for key in found if re.search(r"\d{4}", key) or key in KEYS}


def test_every_entry_is_cited_and_every_citation_has_one() -> None:
    assert len(KEYS) > 40 and len(set(KEYS)) == len(KEYS)
    assert set(KEYS) == cited()


@needs_pandoc
def test_style_sets_author_year_and_links_every_entry() -> None:
    text = (
        "@vaswani2017, [@vaswani2017, p. 3; @liu2021; @liu2021drloc], [@katharopoulos2018].\n\n"
        + " ".join(f"[@{key}]" for key in KEYS)
    )
    command = [str(find_pandoc()), "--from=markdown", "--to=html", "--citeproc", "--wrap=none"]
    files = [f"--bibliography={REPORT / 'references.bib'}", f"--csl={REPORT / 'citations.csl'}"]
    done = subprocess.run([*command, *files], input=text, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    first, _, _ = re.sub(r"<[^>]+>", "", done.stdout).replace("\u00a0", " ").partition("\n")
    assert first == (
        "Vaswani et al. (2017), (Vaswani et al. 2017, p. 3; Liu, Lin, et al. 2021; "
        "Liu, Sangineto, et al. 2021), (Katharopoulos and Fleuret 2018)."
    )
    entries = re.findall(r'class="csl-entry".*?</div>', done.stdout, re.DOTALL)
    assert len(entries) == len(KEYS)
    for entry in entries:
        assert re.search(r' <a\s+href="https://[^"]+">https://[^<]+</a>\s*</div>$', entry), entry
        assert re.search(r"\(\d{4}\)\. ", re.sub(r"<[^>]+>", "", entry)), entry
    lecun = re.sub(r"<[^>]+>", "", next(entry for entry in entries if "LeCun" in entry))
    assert "Proceedings of the IEEE, 86(11), pp.\u00a02278–2324. https://doi.org/10.1109/" in lecun
    assert not re.search(r"<em>International conference", done.stdout)
