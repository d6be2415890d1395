"""Mutated inputs: one clear line or a result; nothing half-written, nothing else touched."""

from __future__ import annotations

from pathlib import Path

from .case import Case, contents
from .ground import NET, QUICK
from .mutate import mutate
from .trial import Words

WHOLE = 1000
SAYS = (
    "mutated checkpoints, images, label maps, tables, stores and workspaces: no traceback, "
    "exit 0, 1 or 2, within 60 s and 2 GB, nothing half-written, other results as they were"
)

_MODELS = ("net.pt", "state.pt", "training.ckpt", "legacy.pth", "net.safetensors", "net.pt2")
_LABELS = ("dissect", "net.pt", "-d", "shapes", "-l", "conv1", "--chance", 0, *QUICK)
_PHOTOS: tuple[Words, ...] = (
    ("units", "net.pt", "-d", "photos", "-l", "conv1", *QUICK),
    ("cam", "net.pt", "-i", "photos", "--method", "gradcam", *QUICK),
    ("invert", "net.pt", "-i", "photos", "-l", "conv1", "--steps", 1, *QUICK),
    ("fool", "net.pt", "-i", "photos", "--steps", 1, *QUICK),
)
# what reads results: the folder that it may change is its own
_READERS: dict[str, tuple[Words, ...]] = {
    "activations": (
        ("dissect", "-d", "shapes", "-l", "conv2", "--chance", 0, *QUICK),
        ("units", "-d", "kinds", "-l", "conv2", "--top", 3, *QUICK),
        ("cluster", "-d", "kinds", "-l", "conv2", "--only", "categories", *QUICK),
        ("outliers", "-d", "photos", "-l", "conv2", "--noise", 4, *QUICK),
        ("label", "-d", "kinds", "-l", "conv2", "--terms", 1, "--chance", 0, *QUICK),
    ),
    "dissect": (("exam", "-l", "conv2", *QUICK), ("dissect", "-l", "conv2", *QUICK)),
    "cluster": (("explain", "-i", "photos/0.png", "-l", "conv2", *QUICK),),
    "visualize": (("visualize", "-f", "conv1:0-2", "--steps", 2, *QUICK),),
    "units": (("units", "-d", "kinds", "-l", "conv2", *QUICK),),
    "invert": (("invert", "-i", "photos/1.jpg", "-l", "conv1", "--steps", 2, *QUICK),),
    "cam": (("cam", "-i", "photos/1.jpg", "--method", "gradcam", *QUICK),),
    "fool": (("fool", "-i", "photos/1.jpg", "--steps", 1, *QUICK),),
    "label": (("label", "-d", "kinds", "-l", "conv2", "--chance", 1, *QUICK),),
}
_PAGES: tuple[Words, ...] = (
    ("report",),
    ("report", "--site", "site"),
    ("compare", "ws", "ws", "--out", "compared", "--resamples", 20),
)
_SHARED = ("workspace.json", "report.html")  # what every command may write anew


def check(case: Case) -> None:
    """Spoil a file or two, and run a command that reads it."""
    spoiled, words, workspace = case.dice.choice((_model, _image, _table, _result, _result))(case)
    case.about = "; ".join(mutate(path, case.dice) for path in spoiled)
    before = contents(case.place)
    given = words if words[0] in ("compare", "data") else (*words, "-w", workspace)
    done = case.run(*given)
    case.counts[f"exit {done.code}"] += 1
    case.expect_whole(case.place, but=spoiled)
    _expect_untouched(case, before, done.code, str(words[0]))


def _expect_untouched(case: Case, before: dict[str, bytes], code: int, command: str) -> None:
    """All files that were there are as they were, but what the command is there to make."""
    after = contents(case.place)
    for name, content in before.items():
        own = code == 0 and name.startswith((f"ws/{command}/", "ws/activations/", "ws/images/"))
        if after.get(name) != content and not own and Path(name).name not in _SHARED:
            case.faults.append(f"{name} {'changed' if name in after else 'is gone'}")


def _model(case: Case) -> tuple[list[Path], Words, str]:
    name = case.dice.choice(_MODELS)
    bare = () if name in ("net.pt", "net.pt2") else NET
    command = case.dice.choice(
        (
            ("layers", name, *bare),
            ("doctor", name, *bare),
            ("units", name, "-d", "photos", "-l", "last", *bare, *QUICK),
        )
    )
    return [case.place / name], command, "fresh"


def _image(case: Case) -> tuple[list[Path], Words, str]:
    photos = sorted((case.place / "photos").iterdir())
    return case.dice.sample(photos, 3), case.dice.choice(_PHOTOS), "fresh"


def _table(case: Case) -> tuple[list[Path], Words, str]:
    shapes = case.place / "shapes"
    kind = "*.csv" if case.dice.random() < 0.8 else "images/*/*.png"
    path = case.dice.choice(sorted(shapes.glob(kind)))
    return [path], case.dice.choice((_LABELS, _LABELS, ("data", "check", "shapes"))), "fresh"


def _result(case: Case) -> tuple[list[Path], Words, str]:
    workspace = case.place / "ws"
    kind = case.dice.choice((*_READERS, "activations", "workspace.json"))
    if kind == "workspace.json":
        readers = [words for one in _READERS.values() for words in one]
        return [workspace / kind], case.dice.choice([*readers, *_PAGES]), "ws"
    endings = (".json", ".csv", ".h5", ".png", ".npz")
    found = [p for p in sorted((workspace / kind).rglob("*")) if p.suffix in endings]
    path = case.dice.choice([p for p in found if p.suffix != ".png"] or found)
    pages = _PAGES if kind != "activations" else ()
    return [path], case.dice.choice([*_READERS[kind], *pages]), "ws"
