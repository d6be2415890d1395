"""The page: everything a workspace holds, in one file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import write_text
from cnnlens.report.attribution import class_maps, projections
from cnnlens.report.clusters import category_trees
from cnnlens.report.contents import read_workspace
from cnnlens.report.dissection import dissection
from cnnlens.report.embeddings import embeddings
from cnnlens.report.explanations import explanations
from cnnlens.report.filter_trees import filter_trees
from cnnlens.report.groups import concept_groups
from cnnlens.report.header import header
from cnnlens.report.inversion import inversion
from cnnlens.report.outliers import outliers
from cnnlens.report.pictures import addresses
from cnnlens.report.section import Section
from cnnlens.report.side_by_side import side_by_side
from cnnlens.report.stability import parts
from cnnlens.report.visualizations import visualizations

# The page's sections in reading order: name to a function that gathers it, or None of it.
SECTIONS: dict[str, Callable[[Path], Section | None]] = {
    "dissect": dissection,
    "stability": parts,
    "groups": concept_groups,
    "visualize": visualizations,
    "deconv": projections,
    "cam": class_maps,
    "invert": inversion,
    "categories": category_trees,
    "filters": filter_trees,
    "explain": explanations,
    "embed": embeddings,
    "outliers": outliers,
    "compare": side_by_side,
}

_SCRIPTS = (
    "dom.js",
    "chart.js",
    "table.js",
    "panel.js",
    "dissection.js",
    "filters.js",
    "embed.js",
    "page.js",
)


def write_report(workspace: Path) -> Path:
    """Write ``report.html`` over everything found in a workspace.

    Parameters
    ----------
    workspace : pathlib.Path
        The folder of one investigation.

    Returns
    -------
    pathlib.Path
        The page. Pictures are inside it up to `pictures.INLINE_LIMIT` bytes, beyond that in
        ``report_files/`` beside it.

    Raises
    ------
    CnnlensError
        When there is nothing to report, a file is damaged, or the page cannot be written.
    """
    found = {name: section for name, gather in SECTIONS.items() if (section := gather(workspace))}
    if not found:
        raise CnnlensError(
            f"{workspace} holds no results yet",
            "run `cnnlens dissect MODEL --broden` first, or name another workspace with -w DIR",
        )
    pictures = {key: path for section in found.values() for key, path in section.pictures.items()}
    page = workspace / "report.html"
    with addresses(workspace, pictures) as src:
        write_text(page, render(read_workspace(workspace), found, src))
    return page


def render(
    document: Mapping[str, Any], sections: Mapping[str, Section], src: Mapping[str, str]
) -> str:
    """Render the page.

    Parameters
    ----------
    document : mapping
        ``workspace.json``.
    sections : mapping of str to Section
        In reading order.
    src : mapping of str to str
        Address of every picture by its key.

    Returns
    -------
    str
        HTML. Equal arguments give equal text.
    """
    templates = environment()
    script = "\n".join(_template(templates, name) for name in _SCRIPTS)
    in_html: set[str] = set()  # what the HTML shows, the script takes from there

    def address(key: str) -> str:
        in_html.add(key)
        return src[key]

    text = templates.get_template("page.html").render(
        header=header(document, [path for s in sections.values() for path in s.sources]),
        sections=sections,
        palette=[colour for s in sections.values() for colour in s.view.get("palette", ())],
        src=address,
        style=_template(templates, "style.css"),
        script=script,
        script_hash=_hash(script),
        data=_embed({name: section.data for name, section in sections.items()}),
        at_unit=_embed([vars(p) for section in sections.values() for p in section.at_unit]),
        # Called where the template writes it: after everything that asks for an address.
        pictures=lambda: _embed({key: src[key] for key in src if key not in in_html}),
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # a file name may hold half a character


def environment() -> Any:
    """Set jinja up as every page of cnnlens needs it."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnlens.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"number": _number, "percent": _percent, "signed": _signed}
    return found


def _template(environment: Any, name: str) -> str:
    return environment.loader.get_source(environment, name)[0]


def _hash(script: str) -> str:
    """Name the page's one script, so that the page's policy runs no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _embed(document: Any) -> str:
    """Write JSON that no HTML parser can mistake for markup, whatever names it carries."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _number(value: Any, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float, digits: int = 0) -> str:
    text = f"{value:+,.{digits}f}"
    return text[1:] if not text.strip("+-0.,") else text.replace("-", "−")


def _percent(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
