"""Names that tensors bear in older files and other libraries, turned into those of known networks.

Nothing but names changes, and shapes where a library keeps axes of length 1: what the network is,
is then told by names and shapes as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

State = dict[str, torch.Tensor]
Names = dict[str, str]  # in the file: in the network

# names in torchvision's own older files, which its networks still read
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)


@dataclass(frozen=True)
class Renamed:
    """A state dict under names that are known.

    Attributes
    ----------
    state : dict
        Its tensors.
    said : tuple of str
        Whose names were read, for people.
    assumed : tuple of str
        What these names do not tell.
    hint : str or None
        A pattern of the network's name, where several have such tensors.
    """

    state: State
    said: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    hint: str | None = None


def renamed(state: State) -> Renamed:
    """Read names of older versions of torchvision and those of `LIBRARIES`."""
    for old, new in _OLD_NAMES:
        state = {old.sub(new, name): tensor for name, tensor in state.items()}
    for library in LIBRARIES:
        names: Names = {}
        for prefix in library.beginnings(state):
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            names |= {prefix + k: prefix + new for k, new in library.names(own)}
        if not names or len({*names.values(), *(k for k in state if k not in names)}) < len(state):
            continue  # it is none of theirs, or two tensors would have one name
        found = {names.get(k, k): _normed(names.get(k, ""), v) for k, v in state.items()}
        return Renamed(found, (f"names of {library.name}",), library.assumed, library.hint)
    return Renamed(state)


def _normed(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Take the axes of length 1 off a global response norm's (1, 1, 1, C)."""
    return tensor.flatten() if ".grn." in name else tensor


@dataclass(frozen=True)
class Library:
    """Code that names the tensors of a known network otherwise.

    Attributes
    ----------
    name : str
        What it is called.
    marks : tuple of str
        Names that only it has, all of them.
    names : callable
        Gives pairs of a name in the file and that in the network, from tensors without prefix.
    assumed, hint
        As in `Renamed`.
    """

    name: str
    marks: tuple[str, ...]
    names: Callable[[Mapping[str, torch.Tensor]], Iterator[tuple[str, str]]]
    assumed: tuple[str, ...] = ()
    hint: str | None = None

    def beginnings(self, state: Mapping[str, torch.Tensor]) -> Iterator[str]:
        """Find what stands before its names in a state dict, once per network."""
        first = self.marks[0]
        for name in state:
            prefix = name.removesuffix(first)
            known = name.endswith(first) and (not prefix or prefix.endswith("."))
            if known and all(prefix + mark in state for mark in self.marks):
                yield prefix


# ---- efficientnet_pytorch, whose layers are those of timm's tf_efficientnet

_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip
_SQUEEZED = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3", **_SQUEEZED,
}  # fmt: skip
_SEPARABLE = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2",
    **_SQUEEZED,
}  # fmt: skip


def _efficientnet(own: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, str]]:
    places = _stages(own)
    for name in own:
        layer, _, rest = name.partition(".")
        if layer in _STEM_AND_HEAD:
            yield name, f"{_STEM_AND_HEAD[layer]}.{rest}"
        elif layer == "_blocks":
            number, part, kind = [*rest.split(".", 2), "", ""][:3]
            expands = f"_blocks.{number}._expand_conv.weight" in own
            known = _EXPANDED if expands else _SEPARABLE
            if number in places and part in known:
                yield name, f"blocks.{places[number]}.{known[part]}.{kind}"


def _stages(own: Mapping[str, torch.Tensor]) -> Names:
    """Say where blocks lie, by number: "stage.block"; each stage has another width."""
    widths = {
        int(found[1]): tuple(tensor.shape[:1])
        for name, tensor in own.items()
        if (found := re.fullmatch(r"_blocks\.(\d{1,4})\._project_conv\.weight", name))
    }
    places, stage, block = {}, -1, 0
    before: tuple[int, ...] | None = None
    for number, width in sorted(widths.items()):
        stage, block = (stage, block + 1) if width == before else (stage + 1, 0)
        places[str(number)], before = f"{stage}.{block}", width
    return places


# ---- ConvNeXt and ConvNeXt V2 as their authors' programs write them

_CONVNEXT = (
    (r"downsample_layers\.0\.", "stem."),
    (r"downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"^norm\.", "head.norm."),
    (r"^head\.(?!norm\.)", "head.fc."),
)


def _convnext(own: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, str]]:
    for name in own:
        new = name
        for old, known in _CONVNEXT:
            new = re.sub(old, known, new)
        if new != name:
            yield name, new


LIBRARIES = (
    Library(
        "efficientnet_pytorch",
        ("_conv_stem.weight", "_bn0.running_mean", "_blocks.0._depthwise_conv.weight"),
        _efficientnet,
        (
            "efficientnet_pytorch pads for the image size that it was built for; padding for that "
            "of its input is assumed",
        ),
        "tf_efficientnet_*",
    ),
    Library(
        "ConvNeXt's authors",
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "stages.0.0.pwconv1.weight"),
        _convnext,
    ),
)
