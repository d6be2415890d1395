"""What a comparison says to somebody who decides: one sentence per network, and what to beware of.

Both are read from ``compare.json`` alone, so that page, table and JSON say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlens.errors import counted
from cnnlens.measure.comparison import Estimate, chance_apart, difference
from cnnlens.measure.quantities import HIGHER, QUANTITIES, Quantity
from cnnlens.settings import CompareSettings

Found = Mapping[str, Any]  # as in ``compare.json``
ACCURACY = Quantity(
    "accuracy", "Accuracy", 3,
    "share of images that are classified rightly; chance: always the most frequent class", HIGHER,
)  # fmt: skip
_KINDS = ("better", "worse", "chance", "same", "bare")
_NAMED = 2  # layers whose numbers a sentence gives


def conclude(found: dict[str, Any]) -> None:
    """Add what follows from the numbers: ``accuracy_differences``, ``verdict``, ``warnings``."""
    settings = CompareSettings(**found["settings"])
    first, *others = (who["accuracy"] for who in found["workspaces"])
    found["accuracy_differences"] = [_apart(first, other, settings) for other in others]
    found["verdict"] = [verdict(found, place) for place in range(1, len(found["workspaces"]))]
    found["warnings"] = [*found.get("cautions", ()), *_by_chance(found)]


def _apart(one: Any, other: Any, settings: CompareSettings) -> dict[str, Any] | None:
    """Difference of two accuracies; None where one is not known, or on how many images."""
    if not (one and other and one["interval"] and other["interval"]):
        return None
    first, second = (_share(found) for found in (one, other))
    apart = difference(first, second, settings)
    ends, levels = [apart.low, apart.high], (one["chance"], other["chance"])
    return {"value": apart.value, "interval": ends, "chance": chance_apart(*levels)}


def _share(found: Mapping[str, Any]) -> Estimate:
    low, high = found["interval"]
    return Estimate(found["value"], low, high, found["images"])


# -- the sentence --------------------------------------------------------------------------------


class _Side:
    """What is said on one side of the sentence: a quantity, and where, with which numbers."""

    def __init__(self, quantity: Quantity) -> None:
        self.quantity = quantity
        self.places: list[tuple[str, str]] = []

    def __str__(self) -> str:
        name, many = spoken(self.quantity), len(self.places)
        lower = "" if self.quantity.better == HIGHER else "lower is better; "
        if many > _NAMED:
            layer, numbers = self.places[-1]
            return f"{name} ({lower}in {many} layers, {layer}: {numbers})"
        said = [f"{layer}: {numbers}" if layer else numbers for layer, numbers in self.places]
        return f"{name} ({lower}{'; '.join(said)})"


def verdict(found: Found, place: int) -> str:
    """Say in one sentence at what a network is better and worse than the first, and by how much.

    Parameters
    ----------
    found : mapping
        As in ``compare.json``.
    place : int
        The network's among the workspaces, from 1 on.
    """
    names = [who["name"] for who in found["workspaces"]]
    sides: dict[str, list[_Side]] = {kind: [] for kind in _KINDS}
    for quantity, rows in _rows(found):
        kinds = {kind: _Side(quantity) for kind in sides}
        for layer, of in rows:
            if kind := _kind(quantity, of, place):
                kinds[kind].places.append((layer, _numbers(of, place)))
        sure = kinds["better"].places or kinds["worse"].places
        for kind, side in kinds.items():
            if side.places and not (kind in ("chance", "same") and sure):
                sides[kind].append(side)
    return _sentence(names[place], names[0], sides, found["settings"]["level"])


def _rows(found: Found) -> Iterator[tuple[Quantity, list[tuple[str, Found]]]]:
    """Yield every quantity with a better direction, with its numbers layer by layer."""
    values = [who["accuracy"] for who in found["workspaces"]]
    accuracy = {"values": values, "differences": found["accuracy_differences"]}
    yield ACCURACY, [("", accuracy)]
    for quantity in QUANTITIES:
        if quantity.better:
            name = "" if len(found["layers"]) == 1 else None
            rows = found["layers"].items()
            yield (
                quantity,
                [(layer if name is None else name, of[quantity.key]) for layer, of in rows],
            )


def _kind(quantity: Quantity, of: Found, place: int) -> str | None:
    """Say on which side numbers stand; None where they are not known, or cannot be compared.

    Where chance differs, too, what counts is by how much more they differ than chance does.
    """
    values, apart = (of["values"][0], of["values"][place]), of["differences"][place - 1]
    if not all(values) or (quantity.counts and values[0]["units"] != values[1]["units"]):
        return None
    if apart is None or apart["interval"] is None:
        return "bare"
    low, high = apart["interval"]
    by_chance = apart["chance"] or 0.0
    if low <= by_chance <= high:
        return "same" if low <= 0 <= high else "chance"
    return "better" if (low > by_chance) == (quantity.better == HIGHER) else "worse"


def _numbers(of: Found, place: int) -> str:
    """Say two numbers against each other, with chance where that differs."""
    one, other = of["values"][0], of["values"][place]
    said = f"{_short(other['value'])} against {_short(one['value'])}"
    apart = of["differences"][place - 1]
    if not apart or not apart["chance"]:
        return said
    return f"{said}, by chance {_short(other['chance'])} against {_short(one['chance'])}"


def _sentence(name: str, first: str, sides: Mapping[str, Sequence[_Side]], level: float) -> str:
    better, worse, chance, same, bare = (_list(sides[kind]) for kind in _KINDS)
    parts = [
        f"better than {first} at {better}" if better else "",
        f"worse at {worse}" if worse else "",
    ]
    said = " and ".join(part for part in parts if part)
    if said and not better:
        said = said.replace("worse at", f"worse than {first} at", 1)
    if said:
        said = f"{name} is {said}, each by more than the noise ({100 * level:g} % intervals)"
    elif same or chance:
        said = f"{name} and {first} do not differ beyond the noise ({100 * level:g} % intervals)"
        same = "" if not (bare or chance) else same
    else:
        said = f"{name} against {first}"
    expected = f"no more than chance differs: {chance}" if chance else ""
    more = f"within the noise: {same}" if same else ""
    alone = f"without an interval, so not decided: {bare}" if bare else ""
    return "; ".join(part for part in (said, expected, more, alone) if part) + "."


def _list(sides: Sequence[_Side]) -> str:
    words = [str(side) for side in sides]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _short(value: float) -> str:
    if value == round(value):
        return f"{value:.0f}"
    return (f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}").replace("-", "−")


def spoken(quantity: Quantity) -> str:
    """Name a quantity inside a sentence."""
    return quantity.title.lower().replace("iou", "IoU").replace("’", "'")


# -- what to beware of ---------------------------------------------------------------------------


def _by_chance(found: Found) -> Iterator[str]:
    """Say of every network where it is no better than chance, and what is dead."""
    for place, who in enumerate(found["workspaces"]):
        name, accuracy = who["name"], who["accuracy"]
        if accuracy and at_chance(ACCURACY, accuracy):
            yield (
                f"{name} classifies no better than chance (accuracy {accuracy['value']:.3f}, "
                f"always the most frequent class {accuracy['chance']:.3f}): its filters need not "
                "stand for anything"
            )
        if dead := (accuracy or {}).get("constant_outputs"):
            yield f"{counted(dead, 'dead output')} of {name}: the same score for every image"
        for layer, of in found["layers"].items():
            values = [(q, of[q.key]["values"][place]) for q in QUANTITIES]
            weak = [spoken(q) for q, v in values if at_chance(q, v)]
            if weak:
                yield f"{name} is at chance in {layer}: {', '.join(weak)}"
            units = of["dead_units"]["values"][place]
            if units and 2 * units["value"] >= units["units"]:
                yield (
                    f"{units['value']:.0f} of {units['units']} units of {layer} are dead in "
                    f"{name}: its means are those of the rest"
                )


def at_chance(quantity: Quantity, value: Any) -> bool:
    """Whether chance is inside a value's interval, or on its better side."""
    if not value or not quantity.better or value["chance"] is None or not value["interval"]:
        return False
    low, high = value["interval"]
    if quantity.better == HIGHER:
        return bool(low <= value["chance"])
    return bool(high >= value["chance"])


def unlike_training(names: Sequence[str], trainings: Sequence[Found]) -> Iterator[str]:
    """Say how networks were trained otherwise than by another method.

    Parameters
    ----------
    names : sequence of str
        Of the networks.
    trainings : sequence of mapping
        Their ``new.json``; empty where there is none.
    """
    known = [(name, one) for name, one in zip(names, trainings, strict=True) if one]
    unknown = [name for name, one in zip(names, trainings, strict=True) if not one]
    if known and unknown:
        yield (
            f"how {', '.join(unknown)} was trained is not known: what differs may come from that, "
            f"not from the method of {', '.join(name for name, _ in known)}"
        )
    for name, one in known[1:]:
        first, mine = (_said(found) for found in (known[0][1], one))
        for key in first:
            if key in mine and first[key] != mine[key]:
                ways = f"{first[key]} in {known[0][0]}, {mine[key]} in {name}"
                yield f"trained otherwise: {key.replace('_', ' ')} {ways}"
    for name, one in known:
        yield from (f"{name}: {note}" for note in one.get("notes") or () if isinstance(note, str))


_METHODS = ("method", "none", "icnn", "cgl", "asked", "insert", "patience", "amp")


def _said(training: Found) -> dict[str, Any]:
    """Give what a method's networks should have in common: all settings but the method's own."""
    asked = training.get("settings")
    settings = dict(asked) if isinstance(asked, Mapping) else {}
    found = {key: value for key, value in settings.items() if key not in _METHODS}
    for key in ("epochs", "images", "classes"):
        if training.get(key):
            found[key] = training[key]
    if isinstance(found.get("images"), Mapping):
        found["images"] = found["images"].get("training")
    return found
