"""What prompts cover as one HTML file in the style of a report: no network, no script, same bytes for same data."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cai.coverage.stats import PromptStats
from cai.report.prompts import prompts_section

_HERE = Path(__file__).parent


def to_page(stats: PromptStats, title: str) -> str:
    """The whole page as a string; write it as UTF-8."""
    css = (_HERE / "style.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = Markup
    own = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    page = environment.get_template("prompts_page.html.j2").render(
        title=title,
        css=Markup(css),
        policy=f"default-src 'none'; style-src 'sha256-{own}'; base-uri 'none'; form-action 'none'",
        **prompts_section(stats),
    )
    return page.encode("utf-8", "replace").decode("utf-8")
