"""Networks of images in folders that transformers wrote, where that is installed (extra ``hf``)."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.model.architectures import FEATURES, Opened
from cnnlens.model.architectures.processors import preprocessing

PREFIX = "transformers/"  # not the form of a factory: without its folder nobody can build it
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_NAMELESS = re.compile(r"LABEL_\d+")  # what transformers calls outputs without names


class Logits(nn.Module):
    """A network of transformers as a plain one: a batch of images in, class scores out.

    Its layers bear the names that the network itself gives them. One without a head returns its
    features: what it pools, else its class token, else the mean over the map. One that tells
    `several` labels of an image returns their probabilities, each by its own sigmoid.
    """

    def __init__(self, whole: nn.Module, pooled: bool, several: bool = False) -> None:
        super().__init__()
        self._whole = (whole.eval(),)  # a tuple hides it: its children are this module's own
        self._pooled, self._several = pooled, several
        takes = signature(whole.forward).parameters
        self._more = {"interpolate_pos_encoding": True} if _RESIZES & takes.keys() else {}
        for name, child in whole.named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits or probabilities (N, classes), or features (N, D)."""
        found = self._whole[0](pixel_values=x, **self._more)
        if (logits := getattr(found, "logits", None)) is not None:
            return logits.sigmoid() if self._several else logits
        if self._pooled and getattr(found, "pooler_output", None) is not None:
            return found.pooler_output.flatten(1)
        state = found.last_hidden_state  # (N, T, D) or (N, C, H, W)
        return state[:, 0] if state.ndim == 3 else state.mean((2, 3))


_RESIZES = {"interpolate_pos_encoding"}
UNMASKED = "nothing is masked: it sees all patches of an image, where training hid most of them"
_MASKED = "vit_mae"  # draws, whenever it runs, which quarter of the patches it sees


def _without_mask(patches: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """All patches (N, T, D), none of which is masked (N, T), and their order (N, T)."""
    count = patches.shape[1]
    order = torch.arange(count, device=patches.device).expand(len(patches), -1)
    return patches, torch.zeros_like(order), order


def open_transformers(
    path: Path,
    config: Mapping[str, Any],
    processor: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
) -> Opened:
    """Open a folder whose ``config.json`` names a ``model_type``.

    Parameters
    ----------
    path : Path
        The folder.
    config : mapping
        What its ``config.json`` holds.
    processor : mapping
        What its ``preprocessor_config.json`` holds; empty where there is none.
    state : mapping, optional
        Weights that count instead of the folder's.

    Raises
    ------
    UsageError
        When transformers is not installed.
    CnnlensError
        When it cannot build the network, or the network takes no images.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UsageError(
            f"{path} needs transformers, which is not installed", 'pip install "cnnlens[hf]"'
        )
    with _with_weights(path, state) as folder:
        whole, loaded = _load(folder, path, config)
    _check_weights(path, whole, loaded)
    whole, parts = _of_images(path, whole)
    cut = not type(whole).__name__.endswith(CLASSIFIES)
    problem = None if cut else config.get("problem_type")
    headless = cut or problem == REGRESSION
    ends = [_ENDS] if problem == SEVERAL else []
    if config["model_type"] == _MASKED:
        embeddings: Any = whole.embeddings
        embeddings.random_masking = _without_mask
        ends.append(UNMASKED)
    net = Logits(whole, "pooler.dense.weight" not in loaded["missing_keys"], problem == SEVERAL)
    settings, said = preprocessing(config, processor)
    classes = None if headless else _class_names(config)
    beside = sorted(loaded["unexpected_keys"])
    return Opened(
        net.eval(),
        PREFIX + type(whole).__name__,
        settings,
        classes,
        source=json.dumps(_computing(config, *ends), sort_keys=True),
        notes=[
            *_notes(path, whole, classes, beside, said),
            *parts,
            *_without_classes(cut, headless),
            *ends,
        ],
        classes_source="config.json" if classes else "",
        stripped=[*_stripped(beside), *parts],
        assumed=[*([said] if settings.source == "assumed" else []), *ends],
        headless=headless,
    )


# values of `problem_type`
SEVERAL, REGRESSION = "multi_label_classification", "regression"
NUMBERS = "config.json says regression: its outputs are numbers, not scores of classes"
_ENDS = f"a sigmoid is put behind its scores: config.json says {SEVERAL}"
CLASSIFIES = ("ForImageClassification", "ForImageClassificationWithTeacher")
# in config.json, but nothing that decides how the network computes
_TOLD = {"id2label", "label2id", "transformers_version", "_name_or_path", "dtype", "torch_dtype"}


def _computing(config: Mapping[str, Any], *ends: str) -> dict[str, Any]:
    """What decides how the network computes: its config, and what is put behind it."""
    kept = {key: value for key, value in config.items() if key not in _TOLD}
    return kept | ({"ends": ends} if ends else {})


def _of_images(path: Path, whole: nn.Module) -> tuple[nn.Module, list[str]]:
    """A network, or the part of one that takes images alone (of CLIP and SigLIP); what is said."""
    if getattr(whole, "main_input_name", "") == "pixel_values":
        return whole, []
    kind, part = type(whole).__name__, getattr(whole, "vision_model", None)
    if part is not None and _takes_images(part):
        return part, [f"of {kind}, which takes texts, too, the part of images is opened"]
    what = "images alone" if hasattr(whole, "vision_model") else "images"
    raise CnnlensError(
        f"{path} holds a {kind}, which takes no {what}",
        "name another network, or the code that makes an image network of it: file.py:factory",
    )


def _takes_images(part: nn.Module) -> bool:
    """Whether pixels are all that a network must be given."""
    given = signature(part.forward).parameters.values()
    needed = [p.name for p in given if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    return [name for name in needed if name != "pixel_values"] == []


def _check_weights(path: Path, whole: nn.Module, loaded: Mapping[str, Any]) -> None:
    lost = [k for k in loaded["missing_keys"] if not k.startswith("pooler.")]
    if lost or loaded["mismatched_keys"]:
        raise CnnlensError(
            f"the weights in {path} do not fit {type(whole).__name__}: "
            f"{len(lost)} missing ({', '.join(sorted(lost)[:3])})",
            "does config.json belong to them?",
        )


def _notes(
    path: Path,
    whole: nn.Module,
    classes: list[str] | None,
    beside: list[str],
    said: str,
) -> list[str]:
    names = f", {len(classes)} class names from config.json" if classes else ""
    notes = [f"{path.name} is transformers' {type(whole).__name__}; {said}{names}"]
    if beside:
        notes.append(f"{counted(len(beside), 'tensor')} left out: {', '.join(beside[:3])}")
    return notes


def _stripped(beside: list[str]) -> list[str]:
    if not beside:
        return []
    return [f"{counted(len(beside), 'tensor')} left out ({', '.join(beside[:3])})"]


def _without_classes(cut: bool, headless: bool) -> list[str]:
    """Say why a network has no classes."""
    return [FEATURES] if cut else [NUMBERS] if headless else []


@contextmanager
def _with_weights(path: Path, state: Mapping[str, Tensor] | None) -> Iterator[Path]:
    """The folder; for other weights, one like it with those, while it is read."""
    if state is None:
        yield path
        return
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(path / "config.json", folder / "config.json")
        tensors = {k: v.contiguous().clone() for k, v in state.items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        yield folder


def _load(folder: Path, path: Path, config: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Build what the folder holds, as transformers does, without the network and without code."""
    import transformers

    kinds = [str(kind) for kind in config.get("architectures") or ()]
    classifies = any(kind.endswith(CLASSIFIES) for kind in kinds)
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    try:
        with quietly():
            return auto.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever transformers raises
        reason = " ".join(str(error).split())[:200]
        raise CnnlensError(
            f"transformers cannot open {path}: {reason}",
            "is it complete, and known to the installed version of transformers?",
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers' own bars, warnings and logging off standard error."""
    from transformers.utils import logging as own

    level, bars = own.get_verbosity(), own.is_progress_bar_enabled()
    own.set_verbosity(logging.CRITICAL)
    own.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        own.set_verbosity(level)
        if bars:
            own.enable_progress_bar()


def _class_names(config: Mapping[str, Any]) -> list[str] | None:
    """Read `id2label`; None where it holds nothing but numbers."""
    names = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    if sorted(names) != list(range(len(names))) or not names:
        return None
    return named([names[number] for number in sorted(names)])


def named(names: list[str] | None) -> list[str] | None:
    """Names of outputs; None where transformers made them of their numbers."""
    made = names and all(_NAMELESS.fullmatch(name) for name in names)
    return None if made else names
