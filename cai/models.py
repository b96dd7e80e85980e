"""Model directories without torch: where a model is, what identifies it, and whether it is finished.

A directory this project wrote has `meta.json`, written last; one without it is unfinished and is never used.
"""

import json
from pathlib import Path
from typing import Any

from cai.errors import ModelNotFound
from cai.files import file_digest
from cai.records import digest

DOWNLOADED = ["*.safetensors*", "*.json", "*.model", "*.txt", "*.jinja"]
"""Of a model on the hub: nothing that is run. Chat templates are rendered in the sandbox of transformers or vLLM."""
SMALLWORLD = Path(__file__).parent / "smallworld" / "model"
META = "meta.json"
HUB_S = 10.0
"""Seconds that the hub may take to say whether it has a model."""


def resolve_model(name: str | Path, *, fetch: bool = True) -> Path:
    """The directory of a model: `smallworld`, a path, or a Hugging Face name; one that is not in the local hub cache is
    fetched, if `fetch`.

    Raises:
        ModelNotFound: nothing is there, the directory is unfinished, or it asks to run its own code.
    """
    if str(name) == "smallworld":
        return SMALLWORLD
    path = Path(name)
    if path.is_dir():
        return _checked(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return _checked(Path(snapshot_download(str(name), allow_patterns=DOWNLOADED, local_files_only=not fetch)))
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(
            f"no model at {str(name)!r}: expected a directory with config.json and safetensors weights, "
            f"`smallworld`, or a Hugging Face name that can be downloaded ({type(error).__name__})"
        ) from None  # the hub's own chain of network errors says nothing more


def look_up(name: str | Path) -> Path | None:
    """Where a model is, as `resolve_model` finds it; None where the hub has it and its weights are not here yet.

    Raises:
        ModelNotFound: it is nowhere, or the hub cannot be asked.
    """
    from huggingface_hub import HfApi

    try:
        return resolve_model(name, fetch=False)
    except ModelNotFound as error:
        if Path(name).is_dir():
            raise
        try:
            HfApi().model_info(str(name), timeout=HUB_S)
        except Exception as asked:  # the hub's, and those of whatever it is asked with
            said = str(asked).strip().partition("\n")[0]
            raise ModelNotFound(f"{error}; the hub's cache here does not have it, nor the hub: {said}") from None
        return None


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"{path} has no config.json; expected a Hugging Face model directory")
    if not list(path.glob("*.safetensors")):
        raise ModelNotFound(f"{path} has no *.safetensors; pickled weights are not loaded, convert them first")
    if "auto_map" in json.loads((path / "config.json").read_text(encoding="utf-8")):
        raise ModelNotFound(f"{path}/config.json has an `auto_map`: it asks to run its own code, which is refused")
    return path


def model_digest(path: Path) -> str:
    """Identity of a model: the bytes of its weights, config, tokenizer and chat template."""
    meta = path / META
    if meta.is_file() and (known := json.loads(meta.read_text(encoding="utf-8")).get("model_digest")):
        return str(known)
    return content_digest(path)


def content_digest(path: Path) -> str:
    names = sorted(
        p.name for p in path.iterdir() if p.suffix in {".safetensors", ".json", ".jinja", ".model"} and p.name != META
    )
    return digest("model", [[name, file_digest(path / name)] for name in names])


def read_meta(path: Path) -> dict[str, Any] | None:
    """What a finished step wrote about itself, or None where it is not finished."""
    meta = path / META
    return json.loads(meta.read_text(encoding="utf-8")) if meta.is_file() else None
