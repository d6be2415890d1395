"""Which recorded operations are linear maps of the signal, and what to call all others.

A list of what is known to be linear, not of what is not: an operation that nobody has thought of
is then named instead of being taken for linear. Choices among activations (maximum pooling, the
k highest, sorting) count as linear: backwards they are the switches of the forward pass.
"""

from __future__ import annotations

import re
from typing import Any

from torch.autograd.function import FunctionCtx

# kinds of nodes, "MulBackward0" is a Mul; those of several operands that may depend on the input
# stand in _PRODUCTS besides
_LINEAR = {
    # sums and products
    *("AccumulateGrad", "Add", "Sub", "Rsub", "Neg", "Mul", "Div", "Mean", "Sum", "Cumsum"),
    *("Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Mv", "Dot", "Linear", "Addcmul", "Addcdiv"),
    *("Lerp", "Convolution", "ConvolutionOverrideable", "ConvolutionBackward", "SlowConv"),
    *("MkldnnConvolution", "CudnnConvolution", "ThnnConv2D", "ConvDepthwise2D", "Trace"),
    *("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"),
    # pooling, resampling, padding
    *("MaxPool2DWithIndices", "MaxPool3DWithIndices", "MaxPool2D", "MkldnnMaxPool2D"),
    *("AdaptiveMaxPool2D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "AvgPool2D", "AvgPool3D"),
    *("MkldnnAdaptiveAvgPool2D", "FractionalMaxPool2D", "MaxUnpool2D", "GridSampler2D"),
    *("UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearestExact2D", "UpsampleLinear1D"),
    *("UpsampleBilinear2D", "UpsampleBilinear2DAa", "UpsampleBicubic2D", "UpsampleBicubic2DAa"),
    *("ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReplicationPad1D"),
    *("ReplicationPad2D", "Im2Col", "Col2Im", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
    # choices among activations
    *("Max", "Min", "Amax", "Amin", "Topk", "Sort", "Kthvalue", "Median", "Cummax", "Cummin"),
    *("Index", "IndexSelect", "Gather", "IndexPut", "IndexAdd", "Scatter", "ScatterAdd"),
    *("MaskedFill", "MaskedSelect", "Where", "NativeDropout"),
    # the same numbers laid out anew
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "Permute", "Transpose", "T", "Movedim"),
    *("Unsqueeze", "Squeeze", "Expand", "Repeat", "Clone", "Copy", "CopySlices", "ToCopy"),
    *("Slice", "Select", "Narrow", "Split", "SplitWithSizes", "UnsafeSplit", "Unbind", "Cat"),
    *("Stack", "AsStrided", "Alias", "Unfold", "Flip", "Roll", "Rot90", "Diagonal", "Tril"),
    *("Triu", "SelectScatter", "SliceScatter", "Fill", "Contiguous", "ToMkldnn", "MkldnnReshape"),
    # frequencies
    *("FftR2C", "FftC2C", "FftC2R", "ViewAsReal", "ViewAsComplex", "Real", "Imag", "Complex"),
    *("ViewAsRealPhysical", "Conj", "ConjPhysical", "ResolveConj"),
}
# operands of which one alone may depend on the input
_PRODUCTS = {
    **dict.fromkeys(("Mul", "Bmm", "Mm", "Mv", "Dot", "Linear"), (0, 1)),
    **dict.fromkeys(("Convolution", "ConvolutionOverrideable", "MkldnnConvolution"), (0, 1)),
    **dict.fromkeys(("CudnnConvolution", "SlowConv", "ThnnConv2D", "ConvDepthwise2D"), (0, 1)),
    **dict.fromkeys(("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"), (0, 1)),
    **dict.fromkeys(("Addmm", "Baddbmm", "Addbmm", "Addcmul"), (1, 2)),
}
# the operand that must not depend on the input
_FIXED = {"Div": 1, "Addcdiv": 2, "Lerp": 2, "GridSampler2D": 1}
_BATCH_NORMS = {"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"}

# what people call those that are met often
_NAMES = {
    "LeakyRelu": "leaky ReLU",
    "PreluKernel": "PReLU",
    "Prelu": "PReLU",
    "RreluWithNoise": "RReLU",
    "Elu": "ELU",
    "Celu": "CELU",
    "Selu": "SELU",
    "Silu": "SiLU",
    "Gelu": "GELU",
    "Mish": "Mish",
    "Glu": "GLU",
    "Hardswish": "hard swish",
    "Hardsigmoid": "hard sigmoid",
    "Hardshrink": "hard shrink",
    "Softshrink": "soft shrink",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log sigmoid",
    "Hardtanh": "hard tanh",
    "ClampMin": "clamp",
    "ClampMax": "clamp",
    "LogSoftmax": "log softmax",
    "Exp": "exponential",
    "Log": "logarithm",
    "Sqrt": "square root",
    "Rsqrt": "square root",
    "Pow": "power (a local normalization?)",
    "Abs": "absolute value",
    "Sin": "sine",
    "Cos": "cosine",
    "Where": "choice by a condition",
    "NativeGroupNorm": "group norm",
    "NativeLayerNorm": "layer norm",
    "LinalgVectorNorm": "norm",
    "Bmm": "product of activations (attention?)",
    "Div": "division by activations",
}


def kind_of(node: Any) -> str:
    """Return what a node of autograd does: "Relu" of a ReluBackward0."""
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]


def nonlinearity(node: Any, depends: list[bool]) -> str:
    """Name what a node does to the signal that is no linear map of it; "" for a linear map.

    Parameters
    ----------
    node : torch.autograd.graph.Node
        Any but a rectifier.
    depends : list of bool
        Which of its operands (`node.next_functions`) depend on the input.
    """
    kind = kind_of(node)
    if isinstance(node, FunctionCtx):  # an autograd.Function, whatever it is called
        return f"autograd function {kind}"
    if kind.startswith("ScaledDotProduct"):
        return "product of activations (attention?)"
    if kind not in _LINEAR:
        return _NAMES.get(kind) or _as_words(kind)
    if kind in _BATCH_NORMS and getattr(node, "_saved_training", True):
        return "norm by the images' own mean and variance"
    factors = [place for place in _PRODUCTS.get(kind, ()) if place < len(depends)]
    if sum(depends[place] for place in factors) > 1:
        return _NAMES.get(kind, "product of activations (a gate?)")
    fixed = _FIXED.get(kind, len(depends))
    if fixed < len(depends) and depends[fixed]:
        return _NAMES.get(kind, "product of activations (a gate?)")
    return ""


def _as_words(kind: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind).lower()
