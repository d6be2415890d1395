"""Every method's settings, with their defaults: written here once, imported without weight."""

from cnnlens.settings.ablate import AblateSettings
from cnnlens.settings.attribution import CamSettings, DeconvSettings
from cnnlens.settings.base import Settings
from cnnlens.settings.cluster import ClusterSettings, ExplainSettings, OutlierSettings
from cnnlens.settings.exam import ExamSettings
from cnnlens.settings.invert import InvertSettings, UpconvSettings
from cnnlens.settings.label import LabelSettings, TextSettings
from cnnlens.settings.measure import (
    CompareSettings,
    DissectSettings,
    ExtractSettings,
    StabilitySettings,
    UnitsSettings,
)
from cnnlens.settings.net2vec import Net2VecSettings
from cnnlens.settings.run import DataSettings, ModelSettings, RunSettings
from cnnlens.settings.synthesize import PRESETS, VisualizeSettings

__all__ = [
    "PRESETS",
    "AblateSettings",
    "CamSettings",
    "ClusterSettings",
    "CompareSettings",
    "DataSettings",
    "DeconvSettings",
    "DissectSettings",
    "ExamSettings",
    "ExplainSettings",
    "ExtractSettings",
    "InvertSettings",
    "LabelSettings",
    "ModelSettings",
    "Net2VecSettings",
    "OutlierSettings",
    "RunSettings",
    "Settings",
    "StabilitySettings",
    "TextSettings",
    "UnitsSettings",
    "UpconvSettings",
    "VisualizeSettings",
]
