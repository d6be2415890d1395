"""What a workspace keeps of the network that it is about, and in what another one differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnlens.settings.place import portable

if TYPE_CHECKING:
    from cnnlens.model.model import Model

# of `open_model`'s arguments: leave to run code; names, which are kept themselves
_NOT_KEPT = ("allow_pickle", "classes")


def entry_of(model: Model, options: dict[str, Any]) -> dict[str, Any]:
    """Say of a model what a workspace keeps of it."""
    entry = {
        "spec": portable(model.spec),
        "arch": model.arch,
        "fingerprint": model.fingerprint,
        "preprocess": model.preprocess.key,
        "preprocess_source": model.preprocess.source,
        "classes": model.classes,
        "classes_source": model.classes_source,
        "random_weights": model.has_random_weights,
        "options": {k: v for k, v in options.items() if v and k not in _NOT_KEPT},
    }
    if model.code:
        entry["code"] = model.code
    if model.unsteady is not None:
        entry["unsteady"] = model.unsteady
    if getattr(model, "lent_to", None) is not None:
        kept = {**options, "head": model.head}
        entry["options"] = {"in_memory": True, **{k: v for k, v in kept.items() if v}}
    return entry


def is_same(known: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether results of the model that is known are results of the other one."""
    return all(known.get(k) == entry[k] for k in ("fingerprint", "preprocess"))


def other_model(known: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Say in what the model that is known is another one."""
    if known.get("fingerprint") == entry["fingerprint"]:
        return "another preprocessing"
    if known.get("spec") != entry["spec"]:
        return f"another model ({known.get('spec')})"
    if entry["options"].get("in_memory"):
        return f"{known['spec']} as it was: its weights, code or hooks have changed"
    return f"another model: {entry['spec']} has other code or weights since"
