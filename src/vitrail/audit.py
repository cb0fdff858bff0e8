"""Look the locked packages up in a list of known vulnerabilities: `make audit`.

pip-audit asks the package index (or OSV) about every package of requirements.lock. It counts a
package that the list does not know as one that is safe, and an index may know none: here only an
answer about every package is called an answer.

    python -m vitrail.audit --program .venv/audit/bin/pip-audit --lock requirements.lock
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from vitrail import outside
from vitrail.errors import VitrailError, run_command

SERVICES = {"pypi": "the package index", "osv": "api.osv.dev"}
SECONDS = 600


def ask(program: str, lock: Path, service: str) -> list[dict[str, Any]]:
    """What pip-audit knows of each package: its name, version, and vulns or skip_reason.

    Raises:
        VitrailError: the list cannot be reached, or pip-audit cannot be run.
    """
    if outside.offline():
        raise VitrailError(f"nothing was audited: {outside.OFFLINE} is set")
    command = [program, "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return list(json.loads(done.stdout)["dependencies"])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VitrailError(f"nothing was audited: {program} cannot be run ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise VitrailError(
            f"nothing was audited: {SERVICES[service]} cannot be asked for known vulnerabilities "
            f"({' '.join(last.split())[:250] or f'pip-audit ended with {done.returncode}'}); try "
            "again where it can be reached, or make audit SERVICE="
            f"{'pypi' if service == 'osv' else 'osv'}"
        ) from error


def tell(found: list[dict[str, Any]], service: str) -> str:
    """The verdict, if there is one and it is a good one.

    Raises:
        VitrailError: a package has a known vulnerability, or nothing is known about some.
    """
    unknown = [one for one in found if "skip_reason" in one]
    hit = [
        f"{one['name']} {one['version']}: {fault['id']}"
        + (f" (mended in {', '.join(fault['fix_versions'])})" if fault.get("fix_versions") else "")
        for one in found
        for fault in one.get("vulns", [])
    ]
    if hit:
        raise VitrailError(
            f"{len(hit)} known vulnerabilities: {'; '.join(hit)}; raise the bounds of "
            "pyproject.toml where they stand in the way, then make lock UPGRADE=1 and make test"
        )
    if unknown or not found:
        raise VitrailError(
            f"{len(unknown)} of {len(found)} packages were not audited: {SERVICES[service]} that "
            "was asked keeps no list of vulnerabilities for them; try again against PyPI, or "
            f"make audit SERVICE={'pypi' if service == 'osv' else 'osv'}"
        )
    return f"audit: no known vulnerability in the {len(found)} packages of the lock"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look the lock up in a list of vulnerabilities.")
    parser.add_argument("--program", default="pip-audit")
    parser.add_argument("--lock", type=Path, default=Path("requirements.lock"))
    parser.add_argument("--service", choices=sorted(SERVICES), default="pypi")
    arguments = parser.parse_args()
    print(tell(ask(arguments.program, arguments.lock, arguments.service), arguments.service))


if __name__ == "__main__":
    run_command(main)
