"""Encoders of images and texts from folders that transformers or open_clip have written.

Weights are read from safetensors, and no code of a folder is run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures.transformers import quietly

_OPEN_CLIP, _TRANSFORMERS = "open_clip_config.json", "config.json"
Towers = tuple[Callable[[list[Image.Image]], Any], Callable[[list[str]], Any]]


def open_folder(folder: Path) -> tuple[Towers, str]:
    """Open an encoder.

    Parameters
    ----------
    folder : pathlib.Path
        With ``open_clip_config.json``, or with the ``config.json`` of a CLIP, SigLIP, … of
        transformers.

    Returns
    -------
    (callable, callable), str
        Of PIL images and of texts to vectors (N, D); and the configuration's text.

    Raises
    ------
    CnnlensError
        When it is no such folder, cannot be read, or the library is not installed.
    """
    for name, read in ((_OPEN_CLIP, _open_clip), (_TRANSFORMERS, _transformers)):
        if (folder / name).is_file():
            try:
                return read(folder), (folder / name).read_text("utf-8")
            except ImportError as error:
                library = "open_clip" if name == _OPEN_CLIP else "transformers"
                raise CnnlensError(
                    f"{folder} needs {library}, which is not installed",
                    'pip install "cnnlens[text]"',
                ) from error
            except CnnlensError:
                raise
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise CnnlensError(
                    f"{folder} cannot be opened as an encoder: {reason}",
                    "it is a whole folder, with safetensors, that transformers or open_clip wrote",
                ) from error
    raise CnnlensError(
        f"{folder} holds no encoder: neither {_OPEN_CLIP} nor {_TRANSFORMERS} is there",
        "name a folder that transformers or open_clip has written, or file.py:factory",
    )


def files_of(folder: Path) -> frozenset[Path]:
    """Return what an encoder in a folder is made of: weights, settings, vocabularies."""
    return frozenset(
        file for file in folder.iterdir()
        if file.is_file() and file.suffix != ".md" and not file.name.startswith(".")
    )  # fmt: skip


def _transformers(folder: Path) -> Towers:
    import torch
    from transformers import AutoModel, AutoProcessor

    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with quietly():
        model = AutoModel.from_pretrained(folder, use_safetensors=True, **safe).eval()
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        kind = type(model).__name__
        raise CnnlensError(
            f"{folder} is a {kind}, which does not compare images with texts",
            "a CLIP or SigLIP does",
        )
    processor = AutoProcessor.from_pretrained(folder, **safe)

    def vectors(found: Any) -> Any:
        return getattr(found, "pooler_output", found)  # of transformers 5; 4 gives them bare

    def images(of: list[Image.Image]) -> Any:
        with torch.inference_mode():
            seen = processor(images=[one.convert("RGB") for one in of], return_tensors="pt")
            return vectors(model.get_image_features(**seen))

    def texts(of: list[str]) -> Any:
        with torch.inference_mode():  # padded to one length: SigLIP was trained so
            read = processor(text=of, return_tensors="pt", padding="max_length", truncation=True)
            return vectors(model.get_text_features(**read))

    return images, texts


def _open_clip(folder: Path) -> Towers:
    import open_clip
    import torch

    if not [*folder.glob("*.safetensors")]:
        raise CnnlensError(
            f"{folder} has no weights as safetensors",
            "others may run code when they are read; save them with safe_serialization=True",
        )
    name = f"local-dir:{folder.resolve()}"
    model, seen_as = open_clip.create_model_from_pretrained(name)
    model.eval()
    tokens = open_clip.get_tokenizer(name)

    def images(of: list[Image.Image]) -> Any:
        with torch.inference_mode():
            return model.encode_image(torch.stack([seen_as(one.convert("RGB")) for one in of]))

    def texts(of: list[str]) -> Any:
        with torch.inference_mode():
            return model.encode_text(tokens(of))

    return images, texts
