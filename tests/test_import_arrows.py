"""Imports point one way (cai, storage, flows, deployments), heavy libraries have one home, no data is run as code.

It reads the sources, so it sees imports inside functions as well, and whatever modules are added later.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cai", "storage", "flows", "deployments")
TORCH = frozenset({"torch", "transformers", "trl", "peft", "accelerate"})
PICKLES = frozenset({"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})
DYNAMIC = frozenset({"import_module", "importlib.import_module", "__import__"})
YAML_LOADS = frozenset({"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"})


class Found(NamedTuple):
    line: int
    what: str


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[Found]:
    """Every module the source imports, anywhere in it, relative ones resolved; named dynamic ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Found(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            yield from (Found(node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in DYNAMIC:
            yield from (Found(node.lineno, a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def forbidden(path: str) -> frozenset[str]:
    """What the module at `path` (from the root) must not import, by its first one or two names."""
    no = {"cai.cli"} if not path.startswith("cai/cli/") else set()
    if path.startswith("cai/") and not path.startswith("cai/cli/"):
        no |= {"prefect", "duckdb", "deltalake", "storage", "flows", "deployments"}
    if path.startswith("storage/"):
        no |= {"prefect", "flows", "deployments"}
    if path.startswith("flows/"):
        no |= {"deployments"}
    if not path.startswith(("cai/training/", "cai/smallworld/", "cai/engines/vllm", "cai/engines/transformers")):
        no |= TORCH
    if not path.startswith("cai/engines/vllm"):
        no |= {"vllm"}
    return frozenset(no)


def wrong_imports(source: str, path: str) -> list[Found]:
    allowed = {"transformers.AutoTokenizer"} if path.startswith("cai/engines/") else set()  # needs no torch
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    no = forbidden(path)
    return [
        found
        for found in imported(ast.parse(source), module, path.endswith("__init__.py"))
        if found.what not in allowed and not no.isdisjoint({found.what.split(".")[0], _first_two(found.what)})
    ]


def _first_two(name: str) -> str:
    return ".".join(name.split(".")[:2])


def dangerous(source: str) -> list[Found]:
    """Calls and imports through which data could become code."""
    found = []
    tree = ast.parse(source)
    for line, what in imported(tree, "", False):
        package, _, rest = what.partition(".")
        if package in PICKLES or (package == "yaml" and rest in YAML_LOADS):
            found.append(Found(line, f"imports {what}"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if name in {"eval", "exec", "os.system", "os.popen"}:
            found.append(Found(node.lineno, f"calls {name}"))
        if name in {f"yaml.{load}" for load in YAML_LOADS}:
            found.append(Found(node.lineno, f"calls {name}; use yaml.safe_load"))
        if name == "torch.load" and given.get("weights_only") is not True:
            found.append(Found(node.lineno, "calls torch.load without weights_only=True"))
        found += [
            Found(node.lineno, f"passes {option}=True")
            for option in ("shell", "allow_pickle", "trust_remote_code")
            if given.get(option) is True
        ]
    return found


def test_imports_point_one_way_and_heavy_libraries_stay_home():
    wrong = {
        f"{path.relative_to(ROOT)}:{line}": what
        for path in sources()
        for line, what in wrong_imports(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    }
    assert not wrong


def test_no_data_is_run_as_code():
    wrong = {
        f"{path.relative_to(ROOT)}:{line}": what
        for path in sources()
        for line, what in dangerous(path.read_text("utf-8"))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("path", "source", "is_wrong"),
    [
        ("cai/chains.py", "import prefect.flows", True),
        ("cai/chains.py", "def f():\n    from storage.store import Store", True),
        ("cai/chains.py", "import importlib\nimportlib.import_module('duckdb')", True),
        ("cai/chains.py", "import torch", True),
        ("cai/chains.py", "from cai import cli", True),
        ("cai/constitution/load.py", "from ..cli import main", True),
        ("cai/engines/__init__.py", "from .vllm import Engine", False),
        ("cai/engines/openai.py", "from vllm import LLM", True),
        ("cai/engines/openai.py", "import tokenizers", False),
        ("cai/engines/chat.py", "from transformers import AutoTokenizer", False),
        ("cai/engines/chat.py", "from transformers import AutoModel", True),
        ("cai/engines/vllm.py", "import vllm, torch", False),
        ("cai/engines/vllm_start.py", "import vllm, torch", False),
        ("cai/training/sft.py", "import trl", False),
        ("cai/training/sft.py", "import storage", True),
        ("cai/cli/tables.py", "from storage.store import Store", False),
        ("cai/cli/doctor.py", "import torch", True),
        ("storage/store.py", "import duckdb, deltalake", False),
        ("storage/store.py", "if x:\n    import transformers", True),
        ("storage/store.py", "import flows.pipeline", True),
        ("flows/pipeline.py", "from prefect import flow\nfrom storage.store import Store", False),
        ("flows/pipeline.py", "def f():\n    import trl", True),
        ("flows/pipeline.py", "import cai.cli", True),
    ],
)
def test_an_arrow_that_points_back_is_seen(path, source, is_wrong):
    assert bool(wrong_imports(source, path)) is is_wrong


@pytest.mark.parametrize(
    ("source", "is_wrong"),
    [
        ("yaml.load(text, Loader=yaml.SafeLoader)", True),
        ("from yaml import unsafe_load", True),
        ("yaml.safe_load(text)", False),
        ("import pickle", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=True)", False),
        ("eval('1')", True),
        ("model.eval()", False),
        ("subprocess.run(text, shell=True)", True),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", True),
    ],
)
def test_a_dangerous_call_is_seen(source, is_wrong):
    assert bool(dangerous(source)) is is_wrong


@pytest.mark.parametrize("arguments", [["--help"], ["constitution", "--help"], ["constitution", "diff", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from cai.cli import door\n"
        f"result = CliRunner().invoke(door, {arguments})\n"
        "assert result.exit_code == 0 and 'xample' in result.output or 'Try it' in result.output, result.output\n"
        "heavy = {'torch', 'transformers', 'vllm', 'prefect', 'duckdb', 'pyarrow', 'deltalake', 'matplotlib'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
