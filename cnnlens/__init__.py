"""What have the filters of a trained CNN learned?

The names below are loaded when they are first used, so that ``import cnnlens`` stays light. What it
imports itself is loaded already: ``python -m cnnlens`` begins here, beside the user's own files.
"""

from __future__ import annotations

from importlib import import_module

from cnnlens.errors import CnnlensError, UsageError

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "Investigation": "cnnlens.study.investigation",
    "Preprocess": "cnnlens.model.preprocess",
    "wrap_module": "cnnlens.model.open",
    "memory_images": "cnnlens.data.memory",
    "open_model": "cnnlens.model.open",
    "save_checkpoint": "cnnlens.model.checkpoint",
    "find_layers": "cnnlens.model.layers",
    "open_data": "cnnlens.data.open",
    "find_broden": "cnnlens.data.open",
    "make_shapes": "cnnlens.data.synthetic",
    "make_animals": "cnnlens.data.animals",
    "extract": "cnnlens.activations.extract",
    "ModelSource": "cnnlens.activations.sources",
    "StoreSource": "cnnlens.activations.sources",
    "Store": "cnnlens.activations.store",
    "dissect": "cnnlens.measure.dissect",
    "net2vec": "cnnlens.measure.net2vec",
    "Net2VecSettings": "cnnlens.settings",
    "label": "cnnlens.measure.unit_labels",
    "LabelSettings": "cnnlens.settings",
    "exam": "cnnlens.measure.exam_papers",
    "ExamSettings": "cnnlens.settings",
    "ablate": "cnnlens.measure.ablation",
    "AblateSettings": "cnnlens.settings",
    "stability": "cnnlens.measure.stability",
    "accuracy": "cnnlens.measure.accuracy",
    "StabilitySettings": "cnnlens.settings",
    "units": "cnnlens.measure.units",
    "UnitsSettings": "cnnlens.settings",
    "visualize": "cnnlens.synthesize.visualize",
    "DissectSettings": "cnnlens.settings",
    "VisualizeSettings": "cnnlens.settings",
    "ExtractSettings": "cnnlens.settings",
    "RunSettings": "cnnlens.settings",
    "invert": "cnnlens.synthesize.invert",
    "reconstruct": "cnnlens.synthesize.reconstruct",
    "InvertSettings": "cnnlens.settings",
    "evolve": "cnnlens.measure.evolution",
    "project": "cnnlens.attribution.deconv",
    "Projector": "cnnlens.attribution.deconv",
    "DeconvSettings": "cnnlens.settings",
    "ClassMaps": "cnnlens.attribution.cam",
    "CamSettings": "cnnlens.settings",
    "category_tree": "cnnlens.cluster.categories",
    "filter_tree": "cnnlens.cluster.filters",
    "decision_path": "cnnlens.cluster.decision_path",
    "cluster": "cnnlens.cluster",  # the package can be called
    "explain": "cnnlens.cluster.explain",
    "outliers": "cnnlens.cluster.outliers",
    "lay_out": "cnnlens.cluster.embed",
    "group": "cnnlens.cluster.vectors",
    "ClusterSettings": "cnnlens.settings",
    "OutlierSettings": "cnnlens.settings",
    "write_report": "cnnlens.report.page",
    "compare": "cnnlens.report.compare_files",
    "CompareSettings": "cnnlens.settings",
    "ConceptGroups": "cnnlens.interpretable.concept_groups",
    "grouped_layers": "cnnlens.interpretable.concept_groups",
    "read_labelled": "cnnlens.data.labelled",
    "finetune": "cnnlens.interpretable.finetune",
    "FinetuneSettings": "cnnlens.settings.finetune",
    "IcnnSettings": "cnnlens.settings.finetune",
    "CglSettings": "cnnlens.settings.finetune",
}

__all__ = ["CnnlensError", "UsageError", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cnnlens' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
