"""``cnnlens doctor``: what was assumed on opening a network, and what of it works.

A table would say what is usual; here the same functions answer that the commands call, on one image
of noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, counted
from cnnlens.methods.method import Method, Results
from cnnlens.progress import Step

if TYPE_CHECKING:
    from cnnlens.model.model import Model
    from cnnlens.model.preprocess import Preprocess
    from cnnlens.study.session import Study

WORKS, ASSUMES, UNDEFINED = "works", "works with an assumption", "not defined"


@dataclass(frozen=True)
class Fitness:
    """What became of a command.

    Attributes
    ----------
    command : str
        As one types it.
    status : str
        `WORKS`, `ASSUMES` or `UNDEFINED`.
    why : str
        What is assumed, or why it is not defined.
    """

    command: str
    status: str
    why: str = ""


class Doctor(Method):
    """Say what was assumed on opening a model, and what works on it.

    What was found in the file, what was left out or assumed, the layers; then for every command:
    works, works with an assumption, or is not defined for this network, and why. Each is tried on
    one image of noise. Nothing is written: paste the answer into a bug report.
    """

    name, panel = "doctor", "Find your way"
    uses, remembers = ("device",), False
    forces = "say nothing of a damaged workspace"
    examples = ("cnnlens doctor model.pt", "cnnlens doctor timm:vit_tiny_patch16_224 --json")

    def resolve(self) -> None:
        """Open the network; where its file does not open, keep why."""
        self.fitness: list[Fitness] = []
        self.about: dict[str, Any] = {"model": self._spec(), **self._file(), "opens": True}
        try:
            self.about |= _described(self.study.model)
        except CnnlensError as error:
            if not self.about.get("file"):  # no such file, no such name
                raise
            self.about |= {"opens": False, "why": error.message, "hint": error.hint}
            self.failed.append(CnnlensError(error.message, error.hint))
            return
        self.about["layers"] = self._layers()

    def _spec(self) -> str:
        spec, known = self.study.spec, self.study.workspace.model_options
        if spec is None and known is not None:
            return str(known["spec"])
        return spec if isinstance(spec, str) else getattr(spec, "spec", "")

    def _file(self) -> dict[str, Any]:
        """What the file seems to be, whether it opens or not."""
        from cnnlens.model.file_kinds import file_type

        path = Path(self._spec()).expanduser()
        if path.is_file():
            return {"file": file_type(path), "bytes": path.stat().st_size}
        return {"file": "a folder"} if self._spec() and path.is_dir() else {}

    def _layers(self) -> dict[str, Any]:
        """How many layers there are, and which is the last."""
        try:
            found = self.study.addresses
            last = found.resolve("last").as_row()
        except CnnlensError as error:
            return {"count": 0, "why": error.message}
        return {"count": len(found.rows), "last": last}

    def work(self) -> Iterator[Step]:
        """Try every command."""
        todo = {} if self.failed else commands()
        for done, (command, probes) in enumerate(todo.items()):
            yield Step(done, len(todo), "commands", note=command, unit="")
            self.fitness.append(tried(command, probes, self.study))

    def close(self) -> None:
        """Put both together."""
        from cnnlens.files.workspace import versions

        found = [asdict(one) for one in self.fitness]
        self.summaries = {"doctor": {**self.about, "commands": found, "versions": versions()}}

    def show(self, results: Results) -> None:
        """Show what was found and assumed, then a line per command."""
        results.table(("what", "found"), [*_rows(self.document())])
        rows = [(one.command, one.status, one.why) for one in self.fitness]
        if rows:
            results.table(("command", "status", "why"), rows)
            bad = [one for one in self.fitness if one.status == UNDEFINED]
            assumed = [one for one in self.fitness if one.status == ASSUMES]
            results.say(
                f"{len(rows) - len(bad) - len(assumed)} work, {len(assumed)} with an assumption, "
                f"{len(bad)} not defined"
            )


def commands() -> dict[str, tuple[str, ...]]:
    """List what is tried: every command, and what an option makes of it, with its probes."""
    from cnnlens.methods import methods

    found = [m for m in methods().values() if m.opens_model and m is not Doctor]
    return {f"{m.name} {one[0]}".strip(): one[1:] for m in found for one in m.probes}


def tried(command: str, probes: tuple[str, ...], study: Study) -> Fitness:
    """Try a command on a study's network, which is opened."""
    model, remarks = study.model, []
    try:
        for probe in probes:
            module, _, function = probe.rpartition(".")
            try_ = getattr(import_module(f"cnnlens.{module}"), function)
            remarks += try_(model, lambda: study.addresses)
    except CnnlensError as error:
        return Fitness(command, UNDEFINED, error.message)
    except Exception as error:  # whatever a strange network raises is what one wants to hear of
        first = (str(error).strip().splitlines() or [""])[0]
        return Fitness(command, UNDEFINED, f"{type(error).__name__}: {first}")
    remarks += ["preprocessing is assumed"] if _is_assumed(model.preprocess) else []
    remarks += ["weights are random"] if model.has_random_weights else []
    return Fitness(command, ASSUMES if remarks else WORKS, "; ".join(remarks))


def _is_assumed(preprocess: Preprocess) -> bool:
    """Whether size, mean or deviation are what nobody said."""
    source = preprocess.source
    return "assumed" in source and not source.endswith(", overridden")


# ---- what is known of an opened network


def _described(model: Model) -> dict[str, Any]:
    """What is known of an opened network, as plain values."""
    from cnnlens.model.architectures import first_convolution
    from cnnlens.model.classes import count_scores

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


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
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
    outputs = document["outputs"]
    yield "outputs", counted(outputs, "class score") if outputs else "no scores"
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
