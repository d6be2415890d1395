"""Every method, one file each; those of other packages join by the entry points of `GROUP`.

A method's file says what it asks for, how it makes, lists and shows it; see `method.Method`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlens.errors import CnnlensError
from cnnlens.methods.method import Gather, Inputs, Method, Results, carry_out
from cnnlens.methods.plugged import GROUP, plugged
from cnnlens.voice import Voice

if TYPE_CHECKING:
    from cnnlens.report.site import Site
    from cnnlens.report.unit_search import Hit

__all__ = [
    "Gather",
    "Inputs",
    "Method",
    "Results",
    "carry_out",
    "find_units",
    "methods",
    "sections",
    "write_page",
    "write_site",
]

# in the order in which a user meets them, and in which the page shows them
_BUILT_IN = (
    *(
        "doctor",
        "extract",
        "units",
        "dissect",
        "net2vec",
        "label",
        "exam",
        "ablate",
        "stability",
        "visualize",
        "deconv",
        "evolve",
        "cam",
    ),
    *("invert", "fool", "style"),
    *("cluster", "explain", "outliers", "finetune", "compare"),
)


@cache
def methods() -> dict[str, type[Method]]:
    """All methods by name, ours first; none of them imports anything heavy.

    Another package's method that cannot be loaded, or called so, is left out: `faults` says why.
    """
    found = {
        name: getattr(import_module(f"cnnlens.methods.{name}"), name.title()) for name in _BUILT_IN
    }
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        method = plugged(entry, found)
        if isinstance(method, CnnlensError):
            faults.append(method)
        else:
            found[entry.name] = method
    return found


faults: list[CnnlensError] = []  # what is wrong with methods of other packages


def sections() -> list[Gather]:
    """All parts of the page, in reading order."""
    return [section for method in methods().values() for section in method.sections]


def write_page(workspace: Path, voice: Voice) -> Path:
    """Write the page over everything in a workspace; say what it lacks.

    Raises
    ------
    CnnlensError
        When there is nothing to report.
    """
    from cnnlens.report.page import write_report

    def tell(fault: CnnlensError) -> None:
        voice.note(f"not on the page: {fault.message}")

    return write_report(workspace, sections(), tell, voice.note)


def find_units(workspace: Path, text: str, layers: Sequence[str], encoder: str | None) -> list[Hit]:
    """Find units by what they are called, by the meaning of names where an `encoder` is named.

    Raises as `cnnlens.report.unit_search.search` does.
    """
    from cnnlens.report.unit_search import search

    if encoder is None:
        return search(workspace, text, layers)
    from cnnlens.model.encoder import open_encoder
    from cnnlens.model.gradients import in_own_mode

    with in_own_mode():
        return search(workspace, text, layers, open_encoder(encoder))


def write_site(workspace: Path, folder: Path, url: str, voice: Voice) -> Site:
    """Write a site over every unit of a workspace; say what it lacks.

    Raises
    ------
    CnnlensError
        When nothing is known of any unit, or `folder` holds anything but an earlier site.
    """
    from cnnlens.report.site import write_site

    def tell(fault: CnnlensError) -> None:
        voice.note(f"not on the site: {fault.message}")

    with voice.progress() as bars:
        return write_site(workspace, folder, url, tell, bars.show, sections())
