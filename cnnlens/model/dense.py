"""Backbones of networks that answer for every pixel, whose strides may have become dilations.

No tensor says so. torchvision's networks are told by the names of their heads; of others it is
said that they may have been dilated.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

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


def may_be_dilated(view: View, found: Fit) -> bool:
    """Whether what lies beside a network without its head answers for every pixel, so that it may
    have dilations beyond those it was given.
    """
    if _BACKBONES.get(found.architecture.name, ((), {}))[1].keys() & found.options.keys():
        return False
    left = {**view.beside, **{k: view.state[k] for k in found.left_out}}
    if any(map(_DENSE.search, left)):
        return True
    convolving = [k for k, tensor in left.items() if tensor.ndim == 4]
    detects = any(map(_DETECTS.search, left))
    return not detects and any(map(_CONVOLVES.search, convolving))
