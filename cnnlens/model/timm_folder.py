"""Folders as timm's hub writes them, also where transformers saved its wrapper of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures import Opened, described, shapes_of, timm
from cnnlens.model.architectures import transformers as hf
from cnnlens.model.fit import Fit, build, fit
from cnnlens.model.infer import same_network
from cnnlens.model.weights_file import State

CONFIG = "config.json"
_WRAPPED = "timm_model."  # how transformers begins the names in a network of timm


def _unwrapped(config: Mapping[str, Any], state: State) -> tuple[Mapping[str, Any], State]:
    """What timm itself would have written of a network that transformers saved around it."""
    if not all(name.startswith(_WRAPPED) for name in state):
        return config, state
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    cut = {} if any(kind.endswith(hf.CLASSIFIES) for kind in kinds) else {"num_classes": 0}
    return {**config, **cut}, {name.removeprefix(_WRAPPED): t for name, t in state.items()}


def open_timm(path: Path, config: Mapping[str, Any], state: State) -> Opened:
    """Open a folder whose ``config.json`` names an ``architecture``.

    Parameters
    ----------
    path : Path
        The folder.
    config : mapping
        What its ``config.json`` holds.
    state : mapping
        Its weights.

    Raises
    ------
    UsageError
        When timm is not installed, or has no such network.
    CnnlensError
        When timm cannot build it, or the weights are another's.
    """
    config, state = _unwrapped(config, state)
    plain = timm.architecture(str(config["architecture"]).partition(".")[0])
    arguments = timm.arguments(config)
    known = replace(plain, options=lambda _: (arguments,))
    try:
        found = fit(known, shapes_of(state))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CnnlensError(
            f"timm cannot build {plain.name} as {path / CONFIG} says: {error}",
            "was it written by another version of timm?",
        ) from error
    if not found.exact:
        raise CnnlensError(
            f"the weights in {path} do not fit {plain.name}: {found.describe()}",
            f"does {CONFIG} belong to them?",
        )
    net = build(found, state)
    opened = described(found.architecture, net)
    opened.arch = full_name(found)
    opened.preprocess, assumed = timm.from_folder(config, net)
    names = hf.named(timm.label_names(config))
    if names is not None and len(names) == found.options.get("num_classes", len(names)):
        opened.classes, opened.classes_source = names, CONFIG
    opened.fixed_size = timm.is_fixed(config)
    problem = _without_one_answer(opened, config)
    opened.assumed = [assumed] if assumed else []
    read = [] if assumed else ["preprocessing"]
    read += ["class names"] if names and opened.classes is names else []
    said = f", with {' and '.join(read)} from {CONFIG}" if read else ""
    own = f"{path.name} is {opened.arch}{said}"
    opened.notes = [own, *opened.assumed, *opened.notes, *problem]
    return opened


def _without_one_answer(opened: Opened, config: Mapping[str, Any]) -> list[str]:
    """Heed the `problem_type` that transformers writes; say where scores are not of one class."""
    problem = config.get("problem_type")
    if problem == hf.REGRESSION:
        opened.classes, opened.classes_source, opened.headless = None, "", True
        return [hf.NUMBERS]
    said = f"{CONFIG} says {problem}: its scores are read as those of one label"
    return [said] if problem == hf.SEVERAL else []


def full_name(found: Fit) -> str:
    """Name the architecture, with its arguments where its plain name builds another network."""
    plain = timm.architecture(found.architecture.name.removeprefix(timm.PREFIX))
    if same_network(plain, found):
        return plain.name
    told = {k: v for k, v in found.options.items() if k not in ("num_classes", "in_chans")}
    more = ", ".join(f"{key}={value}" for key, value in sorted(told.items()))
    return f"{plain.name}({more})"
