"""Backbones of networks that answer for every pixel: strides that became dilations, paddings.

No tensor says so. torchvision's networks are told by the names of their heads, and those of
segmentation_models_pytorch by the names beside their encoders; of others it is said that they may
have been dilated.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import nn

from cnnlens.model.entries import View
from cnnlens.model.fit import Fit

# what stands beside such a backbone
_DENSE = re.compile(
    r"aspp|decode_head|psp|ppm|segmentation_head|classifier\.\d+\.convs|aux_classifier"
)
# what does where it convolves, unless the network finds boxes, whose backbones keep their strides
_CONVOLVES = re.compile(r"(^|[._])(decoder|classifier|seg\w*|\w*head)[._]")
_DETECTS = re.compile(r"rpn|roi_?head|box|fpn|anchor|regress|yolo", re.I)
MAY_BE_DILATED = (
    "what is left out answers for every pixel: its backbone may have had dilations for strides, "
    "which no tensor says; --arch file.py:factory builds it as it was"
)

# names of torchvision's heads, all of them; by backbone, how it is built below which of these heads
_HEADS = {
    "deeplabv3": ("classifier.0.convs.0.0.weight",),
    "lraspp": ("classifier.cbr.0.weight", "classifier.low_classifier.weight"),
    "fcn": ("classifier.0.weight", "classifier.1.running_mean", "classifier.4.weight"),
}
_RESNET: dict[str, Any] = {"replace_stride_with_dilation": [False, True, True]}
_BACKBONES: dict[str, tuple[Collection[str], dict[str, Any]]] = {
    "torchvision:resnet50": (("deeplabv3", "fcn"), _RESNET),
    "torchvision:resnet101": (("deeplabv3", "fcn"), _RESNET),
    "torchvision:mobilenet_v3_large": (("deeplabv3", "lraspp"), {"dilated": True}),
}


def as_torchvision_dilates(view: View, found: Fit) -> tuple[Fit, list[str]]:
    """Give the backbone of one of torchvision's segmentation networks its dilations.

    Parameters
    ----------
    view : View
        Its tensors, and those beside it.
    found : Fit
        As they fit.

    Returns
    -------
    (Fit, list of str)
        And what is assumed thereby; the same and nothing where it is none of these.
    """
    heads, options = _BACKBONES.get(found.architecture.name, ((), {}))
    start, beside = view.prefix.removesuffix("backbone."), view.beside
    if not found.headless or start == view.prefix:
        return found, []
    for kind in heads:
        if all(start + name in beside for name in _HEADS[kind]):
            whole = f"{kind}_{found.architecture.name.partition(':')[2]}"
            said = (
                f"its last strides are taken for dilations, as in torchvision's {whole}, whose "
                "names these are"
            )
            return replace(found, options={**found.options, **options}), [said]
    return found, []


# segmentation_models_pytorch's names beside an encoder, and what only its plain decoders have
_SMP_HEAD = "segmentation_head.0.weight"
_SMP_PLAIN = re.compile(r"decoder\.(blocks\.|p5\.)")
_SMP_DILATES = re.compile(r"decoder\.(aspp|fpa|psp)")
# by encoder, which 3 × 3 windows that library pads by 1, and the published network does not
_SMP_PADS = {
    "timm:legacy_xception": re.compile(r"conv[12]"),
    "timm:inception_v4": re.compile(".*"),
}


def pad_as_smp(view: View, found: Fit, net: nn.Module) -> list[str]:
    """Pad the windows of an encoder as segmentation_models_pytorch does.

    Parameters
    ----------
    view, found
        As for `as_torchvision_dilates`.
    net : torch.nn.Module
        The encoder, which is changed.

    Returns
    -------
    list of str
        What is assumed thereby; nothing where it is none of these.
    """
    padded = _SMP_PADS.get(found.architecture.name)
    if padded is None or not _is_smp(view):
        return []
    for name, module in net.named_modules():
        pads = isinstance(module, nn.MaxPool2d) or (
            isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        )
        if pads and padded.fullmatch(name):
            module.padding = (1, 1)
    return ["its windows are taken to be padded by 1, as segmentation_models_pytorch does"]


def _is_smp(view: View) -> bool:
    start = view.prefix.removesuffix("encoder.")
    return start != view.prefix and start + _SMP_HEAD in view.beside


def may_be_dilated(view: View, found: Fit) -> bool:
    """Whether what lies beside a network without its head answers for every pixel, so that it may
    have dilations beyond those it was given.
    """
    if _BACKBONES.get(found.architecture.name, ((), {}))[1].keys() & found.options.keys():
        return False
    if _is_smp(view) and any(map(_SMP_PLAIN.search, view.beside)):
        return any(map(_SMP_DILATES.search, view.beside))
    left = {**view.beside, **{k: view.state[k] for k in found.left_out}}
    if any(map(_DENSE.search, left)):
        return True
    convolving = [k for k, tensor in left.items() if tensor.ndim == 4]
    detects = any(map(_DETECTS.search, left))
    return not detects and any(map(_CONVOLVES.search, convolving))
