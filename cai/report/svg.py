"""A matplotlib figure as inline SVG: colours from the page's CSS, no ids that clash, no style attributes, no addresses.

The page's content security policy allows no inline style, so every style becomes a presentation attribute.
"""

import io
import re
import warnings
from contextlib import AbstractContextManager
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

# Colours that stand for a CSS value, so that one drawing serves light and dark.
INK, MUTED, RULE, PAPER = "#010101", "#010102", "#010103", "#010104"
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
_CSS = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"} | {
    colour: f"var(--s{place})" for place, colour in enumerate(SERIES, start=1)
}

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: selectable, searchable, in the page's own font
    "svg.hashsalt": "cai",
    "text.parse_math": False,  # a `$` in a name is a dollar
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}

SMALL = 4.0
"""Inches; a narrower figure is not drawn larger to fill a wide column."""
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_KEPT = {"fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity"}
_KEPT |= {"font-size", "font-weight", "text-anchor", "stroke-linecap", "stroke-linejoin", "stroke-dashoffset"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def settings() -> AbstractContextManager[object]:
    """The look of every plot, as a context manager."""
    return matplotlib.rc_context(_SETTINGS)


def plain(text: str, limit: int = 40) -> str:
    """A name fit for a label: one line, no control characters, shortened in its middle."""
    text = _CONTROL.sub("\ufffd", text)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit - limit // 2 - 1) :]}"


def to_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as one `<svg role="img">`. `name` makes its ids unique in the page, `label` is what is read aloud."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the glyph
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _drop(root)
    used = _references(root)
    for element in root.iter():
        _clean(element, name, used)
    size = "plot small" if figure.get_size_inches()[0] < SMALL else "plot"
    drawing = ElementTree.Element("svg", {"class": size, "viewBox": root.attrib["viewBox"], "role": "img"})
    drawing.set("aria-label", label)
    drawing.extend(root)
    return ElementTree.tostring(drawing, encoding="unicode")


def _drop(element: ElementTree.Element) -> None:
    """Take out metadata, the style sheet that would reach the whole page and shapes nobody can see."""
    for child in list(element):
        is_unseen = child.tag == f"{_SVG}path" and child.get("style") == "fill: none"
        if is_unseen or child.tag in {f"{_SVG}metadata", f"{_SVG}style"}:
            element.remove(child)
        else:
            _drop(child)
    for child in list(element):
        if child.tag in {f"{_SVG}g", f"{_SVG}defs"} and not len(child):
            element.remove(child)


def _references(root: ElementTree.Element) -> set[str]:
    values = [value for element in root.iter() for value in element.attrib.values()]
    return {found for value in values for found in re.findall(r"^#(\S+)$|^url\(#(\S+)\)$", value) for found in found}


def _clean(element: ElementTree.Element, name: str, used: set[str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    element.tail = None
    if element.tag != "text" and element.tag != "tspan":
        element.text = None
    attributes = dict(element.attrib)
    element.attrib.clear()
    for key, value in attributes.items():
        if key == "style":
            _styles(element, value)
        elif key == "id":
            if value in used:
                element.set("id", f"{name}-{value}")
        elif key == _HREF:
            element.set("href", value.replace("#", f"#{name}-", 1))
        elif key == "d":
            element.set("d", " ".join(value.split()))
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        else:
            element.set(key, value.replace("url(#", f"url(#{name}-", 1))


def _styles(element: ElementTree.Element, style: str) -> None:
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in _KEPT:
            element.set(key, _CSS.get(value, value))
