"""What not labelling an image saves: estimates, with every assumption here and in the report.

No published formula exists for these numbers; prices and times have published sources.
"""

from __future__ import annotations

from dataclasses import dataclass

OBJECTS_PER_IMAGE = 7
"""COCO: 2.5 million instances in 328,000 images, 7.7 per image, rounded down (Lin et al. 2014)."""
WATTS = 60
"""A workstation and its display while somebody labels."""
GRAMS_CO2_PER_KWH = 445
"""World average of electricity generation in 2024 (IEA, Electricity 2025)."""


@dataclass(frozen=True, slots=True)
class LabellingTask:
    """What labelling one image takes.

    Attributes:
        dollars: US dollars per image, one labeller.
        seconds: A person's time per image.
    """

    name: str
    dollars: float
    seconds: float


TASKS = {
    "imageClassification": LabellingTask("Image classification", 0.035, 5),
    "objectDetection": LabellingTask(
        "Object detection", 0.063 * OBJECTS_PER_IMAGE, 25.5 * OBJECTS_PER_IMAGE
    ),
    "semanticSegmentation": LabellingTask(
        "Semantic segmentation", 0.870 * OBJECTS_PER_IMAGE, 79 * OBJECTS_PER_IMAGE
    ),
}
"""By the names of `report_v2.json`.

Dollars: list prices of Google Cloud's data labeling service, tier 1 and one labeller ($35 per
1,000 images, $63 per 1,000 boxes, $870 per 1,000 segments). Seconds: 25.5 per box (Su et al. 2012),
79 per mask (Lin et al. 2014); 5 per classified image is our guess.
"""

ASSUMPTIONS = (
    f"Estimates for images that need no labels: {OBJECTS_PER_IMAGE} objects per image (COCO); "
    "list prices of Google Cloud's data labeling service with one labeller ($35 per 1,000 images, "
    "$63 per 1,000 boxes, $870 per 1,000 segments); 5 s per class label, 25.5 s per box "
    f"(Su et al. 2012), 79 s per mask (Lin et al. 2014) at a {WATTS} W workstation and "
    f"{GRAMS_CO2_PER_KWH} g CO₂ per kWh (world average 2024, IEA). Your prices differ; the sums "
    "scale with them."
)


@dataclass(frozen=True, slots=True)
class Savings:
    """Attributes: `dollars` and kilograms of CO2 for all images together."""

    task: LabellingTask
    dollars: float
    kilograms_co2: float


def savings(n_images: int) -> dict[str, Savings]:
    """Return by task what is saved when `n_images` are not labelled."""
    return {
        key: Savings(
            task,
            n_images * task.dollars,
            n_images * task.seconds * WATTS / 3.6e6 * GRAMS_CO2_PER_KWH / 1e3,
        )
        for key, task in TASKS.items()
    }
