"""What have the filters of a trained CNN learned?

The names below are loaded when they are first used, so that ``import cnnlens`` stays light. What it
imports itself is loaded already: ``python -m cnnlens`` begins here, beside the user's own files.
"""

from __future__ import annotations

from importlib import import_module

from cnnlens.errors import CnnlensError, UsageError

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:  # the same names once more: a checker does not run `__getattr__`
    from cnnlens.activations.extract import extract as extract
    from cnnlens.activations.sources import ModelSource as ModelSource
    from cnnlens.activations.sources import StoreSource as StoreSource
    from cnnlens.activations.store import Store as Store
    from cnnlens.attribution.cam import ClassMaps as ClassMaps
    from cnnlens.attribution.deconv import Projector as Projector
    from cnnlens.attribution.deconv import project as project
    from cnnlens.cluster.categories import category_tree as category_tree
    from cnnlens.cluster.clustering import cluster as cluster
    from cnnlens.cluster.decision_path import decision_path as decision_path
    from cnnlens.cluster.embed import lay_out as lay_out
    from cnnlens.cluster.explain import explain as explain
    from cnnlens.cluster.filters import filter_tree as filter_tree
    from cnnlens.cluster.outliers import outliers as outliers
    from cnnlens.cluster.vectors import group as group
    from cnnlens.data.animals import make_animals as make_animals
    from cnnlens.data.labelled import read_labelled as read_labelled
    from cnnlens.data.memory import memory_images as memory_images
    from cnnlens.data.open import find_broden as find_broden
    from cnnlens.data.open import open_data as open_data
    from cnnlens.data.synthetic import make_shapes as make_shapes
    from cnnlens.interpretable.concept_groups import ConceptGroups as ConceptGroups
    from cnnlens.interpretable.concept_groups import grouped_layers as grouped_layers
    from cnnlens.interpretable.finetune import finetune as finetune
    from cnnlens.measure.ablation import ablate as ablate
    from cnnlens.measure.accuracy import accuracy as accuracy
    from cnnlens.measure.dissect import dissect as dissect
    from cnnlens.measure.evolution import evolve as evolve
    from cnnlens.measure.exam_papers import exam as exam
    from cnnlens.measure.net2vec import net2vec as net2vec
    from cnnlens.measure.stability import stability as stability
    from cnnlens.measure.unit_labels import label as label
    from cnnlens.measure.units import units as units
    from cnnlens.model.checkpoint import save_checkpoint as save_checkpoint
    from cnnlens.model.layers import find_layers as find_layers
    from cnnlens.model.open import open_model as open_model
    from cnnlens.model.preprocess import Preprocess as Preprocess
    from cnnlens.model.wrap import wrap_module as wrap_module
    from cnnlens.report.compare_files import compare as compare
    from cnnlens.report.page import write_report as write_report
    from cnnlens.settings import AblateSettings as AblateSettings
    from cnnlens.settings import CamSettings as CamSettings
    from cnnlens.settings import ClusterSettings as ClusterSettings
    from cnnlens.settings import CompareSettings as CompareSettings
    from cnnlens.settings import DeconvSettings as DeconvSettings
    from cnnlens.settings import DissectSettings as DissectSettings
    from cnnlens.settings import ExamSettings as ExamSettings
    from cnnlens.settings import ExtractSettings as ExtractSettings
    from cnnlens.settings import InvertSettings as InvertSettings
    from cnnlens.settings import LabelSettings as LabelSettings
    from cnnlens.settings import Net2VecSettings as Net2VecSettings
    from cnnlens.settings import OutlierSettings as OutlierSettings
    from cnnlens.settings import RunSettings as RunSettings
    from cnnlens.settings import StabilitySettings as StabilitySettings
    from cnnlens.settings import UnitsSettings as UnitsSettings
    from cnnlens.settings import VisualizeSettings as VisualizeSettings
    from cnnlens.settings.finetune import CglSettings as CglSettings
    from cnnlens.settings.finetune import FinetuneSettings as FinetuneSettings
    from cnnlens.settings.finetune import IcnnSettings as IcnnSettings
    from cnnlens.study.investigation import Investigation as Investigation
    from cnnlens.synthesize.invert import invert as invert
    from cnnlens.synthesize.reconstruct import reconstruct as reconstruct
    from cnnlens.synthesize.visualize import visualize as visualize

_HOMES = {
    "Investigation": "cnnlens.study.investigation",
    "Preprocess": "cnnlens.model.preprocess",
    "wrap_module": "cnnlens.model.wrap",
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


if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'cnnlens' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
