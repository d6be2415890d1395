"""``cnnlens join``: make stores of the shares that ``--shard`` has computed."""

from __future__ import annotations

from typing import Any

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.methods.shares import join_stores, shard_commands
from cnnlens.study.workspace import Workspace


@o.with_fields(*o.common("workspace", "json", "quiet"))
def join(screen: Screen, workspace: Any) -> None:
    """Make activation stores of the shares that --shard has computed.

    Everything in WORKSPACE/activations that lacks no share becomes a store, the same as one process
    makes; what lacks some is named, with the command that computes it. The model is not needed.
    """
    from cnnlens.study.session import Study

    space = Workspace(workspace)
    made = join_stores(Study(space, voice=screen))
    following = [line for line, _ in shard_commands(space.document.get("commands", []))]
    screen.document({"stores": made, "next": following})
    for path in made:
        screen.say(path)
    if not made:
        screen.note(f"nothing in {space.path} waits to be joined")
    for line in following if made else ():
        screen.say(f"goes on from these: {line}")
