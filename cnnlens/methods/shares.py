"""What one share of a run leaves to the others, and what is done when all are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.signed import hidden
from cnnlens.distributed import Share
from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.voice import Results

if TYPE_CHECKING:
    from cnnlens.activations.joining import Unfinished
    from cnnlens.study.session import Study

_SILENT = ("--json", "--quiet", "-q")  # which say nothing of what is computed
_COMMAND = "command.json"  # beside the blocks
_COLUMNS = ("store", "blocks", "there", "shares missing")


def share_summary(study: Study, images: Any, layers: Sequence[Any]) -> dict[str, Any]:
    """Say of each store how far all shares are: for JSON, and for `show_share`."""
    from cnnlens.activations.chunks import blocks_of
    from cnnlens.activations.extract import store_path
    from cnnlens.activations.joining import Unfinished

    stores, usual = [], blocks_of(len(images.paths), study.run.batch_size)
    for layer in layers:
        path = store_path(study.workspace.stores(images), layer)
        found = None if path.exists() else Unfinished.read(path)
        missing, blocks = [] if path.exists() else [*range(usual)], usual
        if found is not None:
            missing, blocks = found.missing(len(images.paths))
        stores.append(
            {
                "layer": layer.name,
                "store": str(path),
                "joined": path.exists(),
                "blocks": blocks,
                "there": blocks - len(missing),
                "missing": shares_of(missing, study.share.of),
            }
        )
    return {"share": str(study.share), "stores": stores}


def shares_of(blocks: Sequence[int], of: int) -> list[str]:
    """Name the shares that some blocks belong to: ``2/4``."""
    return [str(Share(number, of)) for number in sorted({block % of for block in blocks})]


def show_share(results: Results, summary: dict[str, Any], workspace: Path) -> None:
    """Show how far all shares are, and what comes next."""
    stores = summary["stores"]
    rows = [[s["store"], s["blocks"], s["there"], ", ".join(s["missing"])] for s in stores]
    results.table(_COLUMNS, rows, title=_done(summary))
    if all(store["joined"] for store in stores):
        results.say("the stores are there: the command without --shard goes on from them")
        return
    left = any(store["missing"] for store in stores)
    after = "when the others are done" if left else "all are done"
    results.say(f"{after}: cnnlens join -w {shlex.quote(str(workspace))}")


def _done(summary: dict[str, Any]) -> str:
    """Say what this share has done: nothing where its number is beyond that of the blocks."""
    share, most = summary["share"], max(store["blocks"] for store in summary["stores"])
    if int(share.partition("/")[0]) > most:
        return f"share {share} has nothing to do: there are {counted(most, 'block')}"
    return f"share {share} is done"


# ---- joining


def note_command(study: Study, images: Any, layers: Sequence[Any], line: str) -> None:
    """Keep beside the blocks of each store the command whose shares they are."""
    from cnnlens.activations.extract import store_path
    from cnnlens.activations.writer import parts_folder
    from cnnlens.files import make_folder, write_json

    for command, of in shard_commands([hidden(line)]):
        for layer in layers:
            path = store_path(study.workspace.stores(images), layer)
            if not path.exists():
                make_folder(parts_folder(path))
                write_json(parts_folder(path) / _COMMAND, {"command": command, "of": of})


def join_stores(study: Study) -> list[str]:
    """Make all stores of a workspace of their blocks; return where they are.

    Raises
    ------
    CnnlensError
        When blocks are missing or data is away, after every other store was made.
    """
    from cnnlens.activations.joining import unfinished

    made, faults = [], []
    folder = study.workspace.path / "activations"
    data = study.workspace.document["data"]
    found = [(entry, store) for entry in data for store in unfinished(folder / entry["name"])]
    for entry, store in found:
        try:
            images = study.remembered(entry)
            missing, blocks = store.missing(len(images.paths))
            # who joins blocks removes them, once the store is there
            if missing and not store.path.exists():
                alike = [one for _, one in found if one is not store and one.key == store.key]
                raise _lacks(store, missing, blocks, alike)
            is_made = not missing and store.join(images)
        except CnnlensError as error:
            faults.append(error)
            continue
        if is_made:
            made.append(str(store.path))
        else:
            study.voice.note(f"{store.path} was just joined by another process")
    if faults:
        raise faults[0]
    return made


def _lacks(
    store: Unfinished, missing: list[int], blocks: int, alike: Sequence[Unfinished]
) -> CnnlensError:
    """Say which blocks are missing, and the commands that make them."""
    what = f"{store.path} lacks {len(missing)} of its {blocks} blocks"
    if alike:
        return CnnlensError(
            f"{what}; {alike[0].path} has blocks of the same images, by another -d",
            "name the images' folder alike in all shares: others go to a folder of their own",
        )
    command, of = _command_of(store)
    if not command:
        return CnnlensError(what, "repeat the command that began it: it goes on from these")
    absent = shares_of(missing, of)
    named = f"{what}: those of --shard {', '.join(absent)}"
    return CnnlensError(named, f"{command} --shard {absent[0]}")


def _command_of(store: Unfinished) -> tuple[str, int]:
    """The command that a store's blocks are shares of, and how many there are; "" where none is
    noted.
    """
    from cnnlens.activations.writer import parts_folder
    from cnnlens.files import read_json

    try:
        noted = read_json(parts_folder(store.path) / _COMMAND)
        return str(noted["command"]), int(noted["of"])
    except (CnnlensError, KeyError, TypeError, ValueError):  # of an interrupted run, or by hand
        return "", 0


def shard_commands(commands: Sequence[str]) -> list[tuple[str, int]]:
    """Find command lines that did a share: each once, without it, and of how many it was one."""
    found: dict[tuple[str, int], None] = {}
    for line in commands:
        words = _words(line)
        for at, word in enumerate(words):
            value = word.partition("=")[2] or "".join(words[at + 1 : at + 2])
            if word.partition("=")[0] != "--shard" or not re.fullmatch(r"\d+/\d+", value):
                continue
            rest = words[:at] + words[at + (1 if "=" in word else 2) :]
            rest = [word for word in rest if word not in _SILENT]
            found[shlex.join(rest), int(value.partition("/")[2])] = None
    return list(found)


def _words(line: str) -> list[str]:
    """The words of a command line; none of what is no shell's: a call in Python may quote as it
    likes.
    """
    try:
        return shlex.split(line)
    except ValueError:
        return []


def refuse_force() -> UsageError:
    """Say why a share cannot begin anew."""
    return UsageError(
        "--force with --shard: each share would drop what the others have made",
        "remove the store and its blocks, then run the shares without --force",
    )
