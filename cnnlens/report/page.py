"""The page: everything a workspace holds, in one file that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.report.blocks import Section
from cnnlens.report.contents import read_workspace
from cnnlens.report.header import header
from cnnlens.report.html import Tell, warning, write_page

Gather = Callable[[Path], Section | None]


def every_section() -> list[tuple[str, Gather]]:
    """List the page's sections in reading order: name, and function that gathers one or None."""
    from cnnlens.report import sections as known
    from cnnlens.report.dissection import dissection
    from cnnlens.report.embeddings import embeddings
    from cnnlens.report.filter_trees import filter_trees
    from cnnlens.report.groups import concept_groups
    from cnnlens.report.side_by_side import side_by_side

    return [
        ("dissect", dissection),
        ("stability", known.parts),
        ("groups", concept_groups),
        ("visualize", known.visualizations),
        ("deconv", known.projections),
        ("cam", known.class_maps),
        ("invert", known.inversions),
        ("categories", known.category_trees),
        ("filters", filter_trees),
        ("explain", known.explanations),
        ("embed", embeddings),
        ("outliers", known.outliers),
        ("compare", side_by_side),
    ]


def write_report(
    workspace: Path,
    sections: Iterable[tuple[str, Gather]] | None = None,
    tell: Tell | None = None,
) -> Path:
    """Write ``report.html`` over everything found in a workspace.

    A section or a picture that is damaged is named on the page, in its place, and costs only
    itself.

    Parameters
    ----------
    workspace : pathlib.Path
        The folder of one investigation.
    sections : iterable of (str, callable), optional
        What may stand on the page, in reading order: name, and a function that gathers the
        section from the workspace, or None where there is nothing.
    tell : callable, optional
        Hears of everything damaged, once the page is written.

    Returns
    -------
    pathlib.Path
        The page. Pictures are inside it up to `pictures.INLINE_LIMIT` bytes, beyond that in
        ``report_files/`` beside it.

    Raises
    ------
    CnnlensError
        When there is nothing to report, ``workspace.json`` is damaged, or the page cannot be
        written.
    """
    document = read_workspace(workspace)
    notes: list[CnnlensError] = []
    found = list(_gather(workspace, sections or every_section(), notes.append))
    if not found:
        raise CnnlensError(
            f"{workspace} holds no results yet",
            "run `cnnlens dissect MODEL --broden` first, or name another workspace with -w DIR",
        )
    sources = [path for section in found for path in section.sources]
    page = workspace / "report.html"
    write_page(page, header(document, sources, workspace), found, notes.append)
    for note in notes:
        if tell is not None:
            tell(note)
    return page


def _gather(
    workspace: Path, sections: Iterable[tuple[str, Gather]], tell: Tell
) -> Iterator[Section]:
    for name, gather in sections:
        try:
            section = gather(workspace)
        except CnnlensError as error:
            tell(error)
            section = Section(name, name, parts=warning(error, workspace))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            told = CnnlensError(
                f"the results of {name} are damaged: {error!r}", "redo the command with --force"
            )
            tell(told)
            section = Section(name, name, parts=warning(told, workspace))
        if section is not None:
            yield section
