"""A small bucket with annotations: 24 drawn images, two tasks of predictions, metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

N = 24
WEATHER = ("rain", "sun", "snow")


def filename(index: int) -> str:
    return f"street/{index:03d}.png"


def draw(root: Path) -> Path:
    """Write the images and everything below `.lightly/`; return the root."""
    rng = np.random.default_rng(0)
    for index in range(N):
        path = root / filename(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((96, 72), Image.Resampling.BICUBIC).save(path)
        _write(root, f"metadata/street/{index:03d}.json", _metadata(index))
        _write(root, f"predictions/boxes/street/{index:03d}.json", {"predictions": _boxes(index)})
        _write(root, f"predictions/kind/street/{index:03d}.json", {"predictions": _kind(index)})
    schema = [
        _value("weather.temperature", 0.0, "NUMERIC_FLOAT"),
        _value("weather.kind", "", "CATEGORICAL_STRING"),
    ]
    _write(root, "metadata/schema.json", schema)
    _write(root, "predictions/tasks.json", ["boxes", "kind"])
    _write(root, "predictions/boxes/schema.json", _schema("object-detection", "person", "car"))
    _write(root, "predictions/kind/schema.json", _schema("classification", "city", "field", "sea"))
    return root


def temperature(index: int) -> float:
    return float(index * 7 % 31)


def cars(index: int) -> int:
    return index % 4


def _metadata(index: int) -> dict[str, Any]:
    weather = {"temperature": temperature(index), "kind": WEATHER[index % 3 if index < 6 else 0]}
    return {"type": "image", "metadata": {"weather": weather}}


def _boxes(index: int) -> list[dict[str, Any]]:
    cars_ = [
        {"category_id": 1, "bbox": [8 * n + index % 5, 10, 30, 24], "score": 0.5 + 0.1 * n}
        for n in range(cars(index))
    ]
    person = {"category_id": 0, "bbox": [40, 20, 20, 40], "score": 0.9}
    return [*cars_, person] if index % 2 else cars_


def _kind(index: int) -> list[dict[str, Any]]:
    first = 0.34 + 0.65 * index / N
    return [{"category_id": 0, "probabilities": [first, (1 - first) / 2, (1 - first) / 2]}]


def _value(path: str, default: object, kind: str) -> dict[str, Any]:
    return {"name": path, "path": path, "defaultValue": default, "valueDataType": kind}


def _schema(kind: str, *names: str) -> dict[str, Any]:
    categories = [{"id": place, "name": name} for place, name in enumerate(names)]
    return {"task_type": kind, "categories": categories}


def _write(root: Path, name: str, content: object) -> None:
    path = root / ".lightly" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
