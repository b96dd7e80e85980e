"""The comment on a pull request that edits a constitution: what changed in meaning, and what comes of it.

python deployments/ci/comment.py OLD.yaml NEW.yaml [OLD.json NEW.json] > comment.md

The JSON files are what `cai demo --json FILE` measured with each of the two.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

MOST = 60_000
"""Characters; GitHub takes 65,536."""
MODEL = "rl_cai"


def fenced(text: str) -> str:
    """As a block that nothing in the text can end: the text is from whoever opened the pull request."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}diff\n{text.rstrip()}\n{fence}"


def effect(old: dict, new: dict) -> str:
    """The rates of the aligned model under both, with their intervals."""
    rows = ["| measured in the small world | before | after |", "| --- | --- | --- |"]
    for metric in old.get(MODEL, {}):
        if metric in new.get(MODEL, {}):
            rows.append(f"| {metric} | {shown(old[MODEL][metric])} | {shown(new[MODEL][metric])} |")
    return "\n".join(rows)


def shown(rate: dict) -> str:
    if rate["value"] is None:
        return "not measured"
    bounds = f" ({rate['low']:.1%} – {rate['high']:.1%})" if rate.get("n") else ""
    return f"{rate['value']:.1%}{bounds}"


def main(arguments: list[str]) -> int:
    old, new, *measured = arguments
    command = "from cai.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "constitution", "diff", old, new], capture_output=True, text=True
    )
    if done.returncode:
        sys.stdout.write(f"### `{Path(new).name}` cannot be used\n\n{fenced(done.stderr)}\n")
        return 1
    parts = [f"### `{Path(new).name}`, in meaning", fenced(done.stdout[:MOST])]
    if len(measured) == 2:
        parts.append(effect(*(json.loads(Path(path).read_text(encoding="utf-8")) for path in measured)))
    sys.stdout.write("\n\n".join(parts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
