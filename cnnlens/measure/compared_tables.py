"""A comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlens.measure.quantities import QUANTITIES, Quantity
from cnnlens.measure.tree_agreement import AGREEMENTS
from cnnlens.measure.verdict import ACCURACY


def tables(found: Mapping[str, Any]) -> Iterator[tuple[list[str], list[list[str]], str]]:
    """Yield the tables of a comparison, columns, rows and title: accuracies, then each layer's.

    `found` is as in ``compare.json``.
    """
    names = [who["name"] for who in found["workspaces"]]
    accuracies = [who["accuracy"] for who in found["workspaces"]]
    heads = ["", "better", *names, *(f"{other} - {names[0]}" for other in names[1:])]
    if any(accuracies):
        yield heads, [_row(ACCURACY, accuracies, found["accuracy_differences"])], ""
    for name, of in found["layers"].items():
        rows = [_row(q, **of[q.key]) for q in QUANTITIES if any(of[q.key]["values"])]
        yield heads, [*rows, *_agreements(of["trees"], len(names))], name


def _row(quantity: Quantity, values: Sequence[Any], differences: Sequence[Any]) -> list[str]:
    title, digits = quantity.title.replace("’", "'"), quantity.digits
    cells = [_cell(v, digits) for v in values], [_cell(v, digits, "+") for v in differences]
    return [title, quantity.better, *cells[0], *cells[1]]


def _agreements(trees: Sequence[Any], count: int) -> Iterator[list[str]]:
    """Yield how far trees of classes agree with the first one's, under the others' names."""
    for key, title in AGREEMENTS.items():
        found = [one and one[key] for one in trees]
        if any(found):
            said = [_agreeing(one) if one else "-" for one in found]
            yield [title, "", "", *said, *[""] * (count - 1)]


def _agreeing(one: Mapping[str, Any]) -> str:
    value = f"{one['value']} of {one['of']}" if "of" in one else f"{one['value']:.3f}"
    return f"{value} chance {_number(one['chance'], 2, '')} p {one['p_value']:.2g}"


def _cell(value: Mapping[str, Any] | None, digits: int, sign: str = "") -> str:
    if value is None:
        return "-"
    said = _number(value["value"], digits, sign)
    if value["interval"] is not None:
        said += f" ({' to '.join(_number(end, digits) for end in value['interval'])})"
    if value["chance"] is not None:
        said += f" chance {_number(value['chance'], digits or 1)}"
    for name, level in value.get("beside", {}).items():
        said += f" {name} {_number(level, digits)}"
    return said


def _number(value: float, digits: int, sign: str = "") -> str:
    rounded = round(value, digits)
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-0", "0", int(not rounded))
