"""Where a training may write its checkpoint: under a name that says one, over nothing it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnlens.errors import UsageError

# what these names say is opened by another reader, or is not opened at all
_OTHERS = {
    *(".safetensors", ".pt2", ".onnx", ".h5", ".hdf5", ".keras", ".tflite", ".pb", ".gguf"),
    *(".npz", ".npy", ".zip", ".py", ".json", ".png", ".svg", ".csv"),
}
_READ = ("*config.json", "*.index.json", "*.safetensors", "*.bin")  # of a folder of weights


def check_name(out: Path) -> None:
    """See whether a name is a checkpoint's.

    Raises
    ------
    UsageError
        For a folder, and for endings of other files.
    """
    if out.suffix.lower() in _OTHERS or out.is_dir():
        raise UsageError(
            f"--out {out} is no place for a checkpoint",
            "name a file such as new.pt; new.json, new.png and new.svg are written beside it",
        )


def check_sources(out: Path, spec: str, options: Mapping[str, Any]) -> None:
    """See that nothing of what a network is opened from would be written over, by any name.

    Parameters
    ----------
    out : Path
        The checkpoint.
    spec : str
        MODEL: a file, a folder, code.
    options : mapping
        What it was opened with: ``arch``, ``weights``.

    Raises
    ------
    UsageError
        Whatever ``--force`` says.
    """
    for source in _sources((spec, options.get("arch"), options.get("weights"))):
        for path in (out, *(out.with_suffix(end) for end in (".json", ".png", ".svg"))):
            if path.exists() and path.samefile(source):
                what = "MODEL itself" if str(source) == spec else f"{source}, which MODEL reads"
                raise UsageError(
                    f"--out {out} would write over {what}", "choose another file with --out"
                )


def _sources(places: Iterable[str | None]) -> Iterator[Path]:
    from cnnlens.model.hub import folder_of

    for place in filter(None, places):
        path, code = (Path(p).expanduser() for p in (place, place.rpartition(":")[0]))
        if not path.exists():
            yield from [code] if code.is_file() else []
            continue
        yield path
        if folder := path if path.is_dir() else folder_of(path):
            yield from (file for kind in _READ for file in folder.glob(kind))
