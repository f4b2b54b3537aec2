"""What is wrong with a tree of values: one line a mistake, with its path and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

_KINDS = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
}


def wrong(message: str, place: str = "") -> PydanticCustomError:
    """Return the error of a validator that looks at several fields; `place` is the one at fault."""
    return PydanticCustomError("mistake", "{text}", {"text": message, "place": place})


def lines_of(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """Return a line for every mistake, in the order of the model's fields.

    Args:
        error: What validating `model` raised.
        model: The root of the tree. Its unions are told apart by a field `type`.
        where: What the paths begin with, ending in a separator.
    """
    found = error.errors()
    # A list whose entries are all wrong is "too short" as well.
    told = [one for one in found if one["type"] != "too_short" or not one["input"]]
    return list(dict.fromkeys(_line(one, model, where) for one in told))


def _line(error: ErrorDetails, model: type[BaseModel], where: str) -> str:
    """Return `selection_config.strategies[1].strategy.operation: what is wrong`."""
    steps, fields = _walk(model, error["loc"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    kind, given = error["type"], error["input"]
    if kind == "mistake" and context["place"]:
        steps.append(f".{context['place']}")
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        steps.append(".type")
    elif kind == "extra_forbidden":
        steps.pop()
    path = (where + "".join(steps).lstrip(".")).rstrip(".: ")
    return f"`{path}`{_what(kind, given, context, error, fields)}"


def _what(
    kind: str,
    given: object,
    context: Mapping[str, Any],
    error: ErrorDetails,
    fields: Sequence[str],
) -> str:
    match kind:
        case "mistake":
            return f": {context['text']}"
        case "extra_forbidden":
            name = str(error["loc"][-1])
            return f": there is no `{name}`{_alike(name, fields)}"
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            tag = str(context["tag"])
            text = f": `{tag}` is unknown{_alike(tag, tags)}"
        case "enum" | "literal_error":
            words = str(context["expected"]).replace(" or ", ",").split(",")
            allowed = [word.strip(" '") for word in words]
            text = f": `{given}` is unknown{_alike(str(given), allowed)}"
        case "missing" | "union_tag_not_found":
            text = " is missing"
        case "too_short":
            text = ": at least one is expected"
        case _ if kind in _KINDS:
            text = f": {_KINDS[kind]} is expected, not {_shown(given)}"
        case _:
            message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            text = f": {_shown(given)}: {message[:1].lower()}{message[1:]}"
    return text


def _walk(model: type[BaseModel], location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """Return a path's parts as they stand in the file, and the keys beside its last one.

    pydantic's locations hold the `type` of what a union turned out to be: it is left out.
    """
    steps: list[str] = []
    here: dict[str, type[BaseModel]] = {"": model}
    fields = list(model.model_fields)
    for step in location:
        if isinstance(step, int):
            steps.append(f"[{step}]")
        elif step in here:
            here = {"": here[step]}
        else:
            steps.append(f".{step}")
            fields = list(here[""].model_fields) if "" in here else []
            info = here[""].model_fields.get(step) if "" in here else None
            here = dict(_models(info.annotation)) if info else {}
    return steps, fields


def _models(annotation: object) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the models that a type may hold, by their `type`; "" for one without."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        tag = annotation.model_fields.get("type")
        yield (get_args(tag.annotation)[0] if tag else ""), annotation
        yield "", annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _alike(name: str, allowed: Sequence[str]) -> str:
    """Return what was meant, perhaps, and everything that is allowed."""
    by_lower = {one.lower(): one for one in allowed}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    meant = f", did you mean `{by_lower[near[0]]}`?" if near else ""
    return f"{meant}; allowed: {', '.join(allowed)}"


def _shown(given: object) -> str:
    if isinstance(given, Mapping):
        return "a mapping"
    text = "a list" if isinstance(given, list | tuple) else repr(given)
    return text if len(text) <= 60 else f"{text[:57]}…"
