"""`cai prompts`: where prompts come from and what they are. Each command has a module of its own."""

import click

from cai.cli.lazy import Lazy, LazyGroup

COMMANDS: dict[str, Lazy] = {
    "import": Lazy("cai.cli.prompts_import", "command", "Bring in prompts: files, datasets, production logs."),
    "generate": Lazy(
        "cai.cli.prompts_generate", "command", "Have a model write prompts, and vary what draws out harm."
    ),
    "dedup": Lazy("cai.cli.prompts_dedup", "command", "Find prompts that repeat others in other words."),
    "scan": Lazy("cai.cli.prompts_scan", "command", "Personal items in files or tables, by kind; shows none of them."),
    "stats": Lazy("cai.cli.prompts_stats", "command", "What prompts cover, how diverse they are, what is mastered."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def prompts() -> None:
    """Bring in prompts with their licence, origin and tags, and keep them clean.

    \b
    Example:  cai prompts import harmless.jsonl.gz --licence MIT --origin anthropics/hh-rlhf --kind harmful
    """
