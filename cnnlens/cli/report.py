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
    screen = Screen(json=json, quiet=quiet)
    page = o.write_page(Workspace(workspace).path, screen)
    screen.document({"page": str(page), "bytes": page.stat().st_size})
    screen.say(str(page))
