"""Programs written by ``torch.export.save``: loaded without trust, unflattened, measured.

What ``torch.export.load`` does with a file it does not know (read in PyTorch 2.15; the names differ
little since 2.8), and what is done about it here unless pickles are allowed:

- weights and constants are raw bytes, but a flag in the file has them unpickled with
  ``weights_only=False``; example inputs are read with ``weights_only=True`` and, when that fails,
  unpickled after all. So ``torch.load`` is held to ``weights_only=True`` for the time of loading.
- custom and opaque objects are unpickled by other routes, and compiled code is a shared library:
  files that hold any are refused.
- sizes are written as text that sympy evaluates, operators as paths that are looked up in
  ``torch``, ``operator`` and ``math`` (``torch.os.system`` would be found), names become generated
  code: all three are matched against what export itself writes.
- guards are Python text too, run by ``ExportedProgram.module()``, which is never called here.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures import Opened
from cnnlens.model.preprocess import Preprocess

ARCH = "torch.export"
_OPERATORS = (
    "add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|invert"
    "|getitem"
)
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims?|higher_order|torchvision|quantized(_decomposed)?)\.\w+(\.\w+)?"
    rf"|_operator\.({_OPERATORS})|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)"
)
_SIZE = re.compile(
    r"([A-Z]\w*\(|'\w+'|[a-z]{1,3}\d+|\d+(\.\d+)?|True|False|(positive|integer|nonnegative|real)="
    r"|[-+*/%(),<>=!&|~ ])*"
)
_NAME = re.compile(r"[\w.,:>/*+ -]*")
# texts that are neither evaluated nor made into code
_INERT = {"metadata", "guards_code", "in_spec", "out_spec", "stack_trace", "torch_version"}
_PICKLED = ("custom_obj_", "opaque_obj_", "custom_objs")
_COMPILED = (".so", ".cubin", ".dll", ".dylib")


def open_exported(path: Path, allow_pickle: bool = False) -> Opened:
    """Open an exported program.

    Raises
    ------
    CnnlensError
        When the file is damaged, holds what could run code, or is no network of one image batch.
    """
    if not allow_pickle:
        _check(path)
    with _quietly(), _weights_only(not allow_pickle):
        try:
            program = torch.export.load(path)
            net = torch.export.unflatten(program)
        except Exception as error:
            raise _unreadable(path, error) from error
    _check_mode(path, program)
    shape = _input_shape(path, program)
    size = tuple(n if isinstance(n, int) else _example(program, i) for i, n in enumerate(shape))
    batch = shape[0] if isinstance(shape[0], int) else None
    settings = Preprocess(size=(size[2], size[3])).with_channels(size[1])
    return Opened(
        net,
        arch=ARCH,
        preprocess=settings,
        source=str(program.graph),
        batch=batch,
        fixed_size=all(isinstance(n, int) for n in shape[2:]),
        notes=_notes(program, batch),
    )


def _notes(program: torch.export.ExportedProgram, batch: int | None) -> list[str]:
    kinds = {str(t.dtype).removeprefix("torch.") for t in program.state_dict.values()}
    other = sorted(kinds & {"float16", "bfloat16", "float64"})
    notes = [f"the exported program takes batches of {batch} only"] if batch else []
    return notes + [f"the exported program computes in {', '.join(other)}"] * bool(other)


def _input_shape(path: Path, program: torch.export.ExportedProgram) -> tuple[Any, ...]:
    """Shape of the one input, (N, C, H, W); numbers where it is fixed, symbols where it is not."""
    wanted = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name].meta.get("val") for name in wanted if name in nodes]
    shapes = [tuple(v.shape) for v in values if isinstance(v, torch.Tensor)]
    if len(shapes) != 1 or len(wanted) != 1 or len(shapes[0]) != 4:
        raise CnnlensError(
            f"{path} takes {len(wanted)} inputs of shapes {shapes}, not one batch of images",
            "export a network of one input (N, C, H, W)",
        )
    return shapes[0]


def _check_mode(path: Path, program: torch.export.ExportedProgram) -> None:
    """Refuse a program in which batch norms follow the batch, or numbers are drawn."""
    parts = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    nodes = [node for part in parts for node in part.graph.nodes]
    found = {_training(node) for node in nodes if isinstance(node.target, torch._ops.OpOverload)}
    said = [text for text in (_NORM, _DRAWN) if text in found]
    if said:
        raise CnnlensError(
            f"{path} was exported in training mode: {' and '.join(said)}, so that what it "
            "answers depends on more than the image",
            "call net.eval() and export it anew: torch.export.export(net, (example,))",
        )


_NORM, _DRAWN = "its norms follow the batch", "its dropout draws at random"


def _training(node: torch.fx.Node) -> str | None:
    """What an operation does that only training wants; None where it does nothing of the kind."""
    values = _arguments(node)
    name = node.target._schema.name.partition("::")[2]  # type: ignore[union-attr]
    if name.startswith("bernoulli"):
        return _DRAWN
    if "norm" in name:
        # one that keeps no numbers takes the input's in every mode
        own = values.get("running_mean") is not None
        switched = values.get("training") is True or values.get("use_input_stats") is True
        return _NORM if own and (switched or "_with_update" in name) else None
    drawn = (values.get("train") is True and values.get("p") != 0) or (values.get("dropout_p") or 0)
    return _DRAWN if drawn or ("rrelu" in name and values.get("training") is True) else None


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    """Arguments of an operation by name, defaults included."""
    declared = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip([a.name for a in declared], node.args, strict=False))
    return {**{a.name: a.default_value for a in declared}, **given, **node.kwargs}


def _example(program: torch.export.ExportedProgram, axis: int) -> int:
    examples = program.example_inputs
    if examples is None or not examples[0]:
        return (1, 3, 224, 224)[axis]
    return int(examples[0][0].shape[axis])


def _unreadable(path: Path, error: BaseException) -> CnnlensError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if "weights_only" in text or "Weights only" in text:
        return _refused(path, "holds pickled Python objects")
    return CnnlensError(
        f"{path} cannot be opened as an exported program: {text}",
        "it may be damaged or written by another version of PyTorch",
    )


def _refused(path: Path, what: str) -> CnnlensError:
    return CnnlensError(
        f"{path} {what}, which can run any code when it is loaded",
        "pass --allow-pickle if you trust the file",
    )


def _check(path: Path) -> None:
    """Refuse a file that holds anything beyond tensors and a graph of known operators."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            texts = [archive.read(name) for name in names if name.endswith(".json")]
        documents = [json.loads(text) for text in texts]
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if len(set(names)) < len(names):
        raise _refused(path, "holds two members of one name")
    for name in names:
        last = name.rpartition("/")[2]
        if last.startswith(_PICKLED) or last.endswith(_COMPILED) or "/aotinductor/" in name:
            raise _refused(path, f"holds {last}")
    for key, text in (pair for document in documents for pair in _texts(document)):
        if not _expected(key, text):
            raise _refused(path, f"holds the text {text[:60]!r} as '{key}'")


def _texts(thing: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Walk a JSON document's texts, each with the key it stands under."""
    if isinstance(thing, dict):
        for name, value in thing.items():
            if name not in _INERT:
                yield "name", name
                yield from _texts(value, name)
    elif isinstance(thing, list):
        for value in thing:
            yield from _texts(value, key)
    elif isinstance(thing, str):
        yield key, thing


def _expected(key: str, text: str) -> bool:
    if key == "target":
        # a node's operator; in a signature, a parameter's path
        looked_up = text.startswith(("torch", "_operator", "math", "#"))
        return (_TARGET if looked_up else _NAME).fullmatch(text) is not None
    pattern = _SIZE if key == "expr_str" else _NAME
    return pattern.fullmatch(text) is not None


@contextmanager
def _weights_only(held: bool) -> Iterator[None]:
    """Hold ``torch.load`` to tensors, whoever calls it and whatever they ask for."""
    original: Callable[..., Any] = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "weights_only": True})

    if held:
        torch.load = load
    try:
        yield
    finally:
        torch.load = original


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch.export's own logging off standard error: its failures become one line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
