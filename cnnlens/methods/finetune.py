"""``cnnlens finetune``: train a network further, with or without a method that makes it speak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlens.errors import CnnlensError, counted
from cnnlens.methods.checkpoint_out import check_name, check_sources
from cnnlens.methods.method import Inputs, Method, Results
from cnnlens.progress import Step
from cnnlens.settings.finetune import CglSettings, FinetuneSettings, IcnnSettings, TaskSettings
from cnnlens.settings.inputs import data_input, layers_input, negatives_input, out_input
from cnnlens.settings.option import option
from cnnlens.settings.run import ORDERS

if TYPE_CHECKING:
    from cnnlens.interpretable.finetune import Finetuning
    from cnnlens.report.trained import Training


@dataclass(frozen=True)
class FinetuneInputs(Inputs):
    """On which images, for what, and where to."""

    data: Path | None = data_input(
        "Images to train on: class subfolders, or a parts dataset, of which the objects are cut "
        "out. Default: the workspace's last one that fits."
    )
    layer: tuple[str, ...] = layers_input(
        "Which layers stand for something; repeatable. "
        "Default: the last convolution, or the block around it (icnn, --insert); all but one that "
        "gives the class scores (cgl)."
    )
    category: str | None = option(
        None,
        "Tell this category alone from all other images, by one output.",
        metavar="NAME", panel="What",
    )  # fmt: skip
    negatives: Path | None = negatives_input("Images that show none of the categories.")
    out: Path = out_input("new.pt", "The checkpoint; FILE.json and FILE.png beside it.", "FILE")
    keep_checkpoints: bool = option(
        False,
        "Also keep the network of every epoch, from 0 (the start) on: new-epochs/epoch-000.pt … "
        "for new.pt. They open like any other; cnnlens evolve looks at them.",
        name="keep-checkpoints", off="-", panel="Output",
    )  # fmt: skip


class Finetune(Method):
    """Train a network further, so that its filters mean something.

    icnn masks a layer's maps and pulls each filter to one part; cgl makes groups of filters look
    at one place; none is the same training without a method, the fair baseline (none --insert for
    icnn). Every other command opens the result. An interrupted run is resumed by the same command;
    torchrun runs it on several processes. The workspace is left as it is.
    """

    name, panel, shares = "finetune", "Train", True
    asks = FinetuneInputs
    settings_types = (FinetuneSettings, IcnnSettings, CglSettings, TaskSettings)
    uses = ("device", "workers")
    remembers = False
    probes = (("", "interpretable.prepare.probe"),)
    forces = "train anew"
    examples = (
        "cnnlens finetune model.pt -d birds/ -l features.12 --out icnn.pt",
        "cnnlens finetune model.pt -d birds/ -l features.12 --method none --insert --out plain.pt",
        "cnnlens finetune model.pt -d birds/ --method cgl --groups 8 --out cgl.pt",
    )

    def resolve(self) -> None:
        """Find images; see whether the network and the layers can be trained as asked."""
        from cnnlens.distributed import join
        from cnnlens.interpretable.prepare import check
        from cnnlens.interpretable.request import Request

        share = join("")
        self.rank = share.number
        if self.rank:
            self.study.voice.hush()
        asked, study = self.asked, self.study
        check_name(asked.out)
        alone = asked.category is not None or asked.negatives is not None
        self.request = Request.of(asked.layer, alone, *self.all_settings)
        self.images = study.images(asked.data, ("classes", "parts"), remember=False)
        check_sources(asked.out, study.model.spec, study.options)
        study.take_natural_size(self.images)
        self.negatives = study.negatives(asked.negatives)
        study.agree(share, *filter(None, (self.images, self.negatives)))
        if study.opening.classes in ORDERS:
            study.name_classes(self.images)
        check(study.model, self.request)

    def plan(self) -> str:
        """Say how many images are looked at how often."""
        count = sum(len(one.paths) for one in (self.images, self.negatives) if one is not None)
        images, epochs = counted(count, "image"), counted(self.settings.epochs, "epoch")
        return f"{self.request.method}: {images}, {epochs}"

    def work(self) -> Iterator[Step]:
        """Train from where an earlier run stopped, else from the start; write what it found."""
        from cnnlens.data.labelled import labelled_steps
        from cnnlens.interpretable.finetune import Finetuning
        from cnnlens.interpretable.prepare import prepare
        from cnnlens.report import trained

        study, voice, out = self.study, self.study.voice, self.asked.out
        labelled = yield from labelled_steps(
            self.images, study.model.preprocess,
            negatives=self.negatives, category=self.asked.category,
            batch_size=study.run.batch_size, workers=study.run.workers,
        )  # fmt: skip
        voice.skipped([{"image": path, "reason": reason} for path, reason in labelled.skipped])
        self.run = run = Finetuning(prepare(study.model, labelled, self.request))
        for line in run.notes:
            voice.note(line)
        if leaked := trained.leaked(run, study.model.spec):
            voice.note(leaked)
        if study.force and not self.rank:
            trained.forget(out)
        elif out.exists() and not study.force:
            trained.resume(run, out)
        if made := run.done:
            voice.note(f"{out} is trained already; --force trains it anew")
        elif run.history:
            voice.note(f"going on after epoch {run.trainer.epoch}")
        if self.asked.keep_checkpoints and not self.rank:
            for line in trained.begin_keeping(run, out, study.force):
                voice.note(line)
        yield from self._train(run)
        self.summaries["finetune"] = found = run.document()
        if leaked:
            found["notes"] = [*found.get("notes", []), leaked]
        for line in () if made else run.warnings:
            voice.note(line)
        if not (made or self.rank):
            trained.finish(run, out, self.summaries["finetune"])

    def _train(self, run: Finetuning) -> Iterator[Step]:
        from cnnlens.report import trained

        try:
            for event in run:
                step = run.trainer.progress(event)
                if step.milestone and not self.rank:
                    if self.asked.keep_checkpoints:  # first: a resumed run then lacks none
                        trained.keep(run, self.asked.out)
                    trained.save(run, self.asked.out)
                yield step
        except CnnlensError as error:
            if not run.history:
                raise
            kept = f"{self.asked.out} holds the network after epoch {run.history[-1]['epoch']}"
            raise CnnlensError(error.message, f"{kept}; {error.hint}") from error

    def show(self, results: Results) -> None:
        """Show all terms of every epoch."""
        from cnnlens.interpretable.finetune import accuracy_words, weights_words

        found = self.summaries["finetune"]
        terms = list(found["history"][-1])  # the epoch first
        results.table(terms, [[entry.get(term) for term in terms] for entry in found["history"]])
        if said := weights_words(found):
            results.say(said)
        results.say(f"{accuracy_words(found)}; {self.asked.out} opens in every command")
        if self.asked.keep_checkpoints:
            from cnnlens.report.trained import epochs_folder

            kept = epochs_folder(self.asked.out)
            results.say(f"checkpoints: {kept}; cnnlens evolve {kept}/*.pt -f LAYER:UNITS -d DIR")

    def result(self) -> Training:
        """Return accuracy, history, dead units, and where the checkpoint is."""
        from cnnlens.report.trained import Training

        return Training(self.asked.out, self.summaries["finetune"], self.run.silent())
