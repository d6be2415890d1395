"""What is known of an opened network: its document, and its rows for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cnnlens.model.architectures import first_convolution
from cnnlens.model.classes import count_scores
from cnnlens.model.model import Model


def described(model: Model) -> dict[str, Any]:
    """What is known of an opened network, as plain values."""
    try:
        outputs = count_scores(model)
    except Exception:  # the commands say why it does not run
        outputs = 0
    first = first_convolution(model.net)
    return {
        "arch": model.arch,
        "fingerprint": model.fingerprint,
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "preprocess": model.preprocess.as_dict(),
        "input": str(model.preprocess),
        "outputs": outputs,
        "classes": model.classes,
        "classes_source": model.classes_source or None,
        "stem": None if first is None else f"{first[0]}: {first[1]}",
        "transform_input": bool(getattr(model.net, "transform_input", False)),
        "stripped": list(model.stripped),
        "assumed": list(model.assumed),
        "notes": list(model.notes),
    }


def opened_rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of what was found."""
    yield "model", document["model"]
    if "file" in document:
        yield "file", document["file"]
    if not document["opens"]:
        yield "does not open", document["why"]
        return
    yield "architecture", f"{document['arch']}, {document['parameters']:,} parameters"
    yield "input", document["input"].removeprefix("input ")
    if document["stem"]:
        yield "first convolution", document["stem"]
    if document["transform_input"]:
        yield "transform_input", "on"
    yield "outputs", f"{document['outputs']} class scores" if document["outputs"] else "no scores"
    yield "classes", _classes(document)
    for what in ("stripped", "assumed"):
        yield from ((what, words) for words in document[what])
    told = {*document["stripped"], *document["assumed"]}
    yield from (("on opening", note) for note in document["notes"] if note not in told)
    layers, last = document["layers"], document["layers"].get("last")
    words = f"{layers['count']}" if last else layers["why"]
    if last:
        size = "×".join(map(str, last["size"]))
        words += f"; last is {last['alias'] or last['name']}: {last['units']} units, {size}"
    yield "layers", words


def _classes(document: dict[str, Any]) -> str:
    names = document["classes"]
    if not names:
        return "no names (--classes FILE, or class folders, name them)"
    more = ", …" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} ({document['classes_source']})"
