"""Eight commands at once in one workspace: nothing is lost, and all is as one after the other."""

from __future__ import annotations

import json
from pathlib import Path

from .case import Case, contents, in_any_order
from .ground import QUICK
from .trial import Running, Words

WHOLE = 20
SAYS = (
    "eight commands at once in one workspace: the files of one after the other, every command "
    "and data set remembered; one that meets a store being written says so, and works later"
)
_AT_ONCE = 8
_CONV3 = ("-l", "conv3", "--steps", 2, *QUICK)
_HELD = "being written by another process"

# pictures are of a layer that nothing is measured at: they show what measurements are there;
# and errors of `invert` are held against images that it is given, not those the workspace knows
_COMMANDS: tuple[Words, ...] = (
    ("extract", "net.pt", "-d", "kinds", "-l", "conv1"),
    ("dissect", "net.pt", "-d", "shapes", "-l", "conv2", "--chance", 1, *QUICK),
    ("dissect", "net.pt", "-d", "shapes", "-l", "conv1", "--chance", 0, *QUICK),
    ("visualize", "net.pt", "-f", "conv3:0,1", "--steps", 2, *QUICK),
    ("visualize", "net.pt", "-f", "conv3:2,3", "--steps", 2, *QUICK),
    ("visualize", "net.pt", "-f", "conv3:4", "--steps", 2, *QUICK),
    ("invert", "net.pt", "-i", "photos/0.png", "-d", "kinds", *_CONV3),
    ("invert", "net.pt", "-i", "photos/1.jpg", "-d", "kinds", *_CONV3),
    ("cam", "net.pt", "-i", "photos/0.png", "--method", "gradcam", *QUICK),
    ("cam", "net.pt", "-i", "photos/2.webp", "--method", "gradcam", *QUICK),
    ("fool", "net.pt", "-i", "photos/0.png", "--target", 1, "--steps", 2, *QUICK),
    ("deconv", "net.pt", "-f", "conv3:0", "-i", "photos/0.png", *QUICK),
    ("label", "net.pt", "-d", "kinds", "-l", "conv1", "--chance", 1, *QUICK),
    ("cluster", "net.pt", "-d", "kinds", "-l", "conv2", "--only", "categories", *QUICK),
)


def check(case: Case) -> None:
    """Run eight at once in one workspace, and one after the other in another."""
    chosen = case.dice.sample(_COMMANDS, _AT_ONCE)
    case.about = "; ".join(f"{words[0]} {words[3]}" for words in chosen)
    chosen = [(*words, "-w", "new") for words in chosen]
    running = [Running(case.place, words) for words in chosen]
    for words, one in zip(chosen, running, strict=True):
        done = case.keep(one.outcome())
        if _HELD in done.error:
            case.counts["told to wait"] += 1
            case.succeed(*words)
        else:
            case.expect(done.code == 0, f"`{done}` fails in a crowd: {done.error}")
    case.expect_whole(case.place)
    new = case.place / "new"
    found, known = _results(new), _remembered(new)
    case.begin_anew()
    for words in chosen:
        case.succeed(*words)
    case.expect_same(found, _results(new), "at once and one after the other")
    recorded = _remembered(new)
    case.expect(known == recorded, f"workspace.json remembers {known}, not {recorded}")


def _results(workspace: Path) -> dict[str, bytes]:
    """What was found, less what tells in which order commands ended."""
    found = contents(workspace)
    del found["workspace.json"]
    return in_any_order(found)


def _remembered(workspace: Path) -> list[object]:
    document = json.loads((workspace / "workspace.json").read_text())
    names = (sorted(entry["name"] for entry in document[key]) for key in ("data", "layers"))
    return [sorted(set(document["commands"])), *names]
