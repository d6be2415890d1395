"""``cnnlens report``: the page over everything in the workspace."""

from __future__ import annotations

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.study.workspace import Workspace


def report(
    workspace: o.WorkspaceOption = None, json: o.JsonOption = False, quiet: o.QuietOption = False
) -> None:
    """Write the page over all results.

    WORKSPACE/report.html holds everything in the workspace and needs no network.
    """
    from cnnlens.report.page import write_report

    screen = Screen(json=json, quiet=quiet)
    page = write_report(Workspace(workspace).path)
    screen.document({"page": str(page), "bytes": page.stat().st_size})
    screen.say(str(page))
