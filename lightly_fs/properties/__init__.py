"""The measured properties of an image: their names, in column order, and what they mean.

The names are those of the metadata that selections and reports refer to as `lightly.<name>`.
`lightly_fs.properties.measure` computes them, `docs/reference/properties.md` gives the formulas.
"""

from __future__ import annotations

PROPERTIES: dict[str, str] = {
    "width": "Width in pixels, after EXIF orientation.",
    "height": "Height in pixels, after EXIF orientation.",
    "sizeInBytes": "Size of the object in bytes.",
    "sharpness": "Standard deviation of the Laplacian (8-neighbour) of the grey image, 0 to 255.",
    "snr": "Mean over standard deviation of all pixel values; 0 for a uniform image.",
    "luminance": "Mean CIE lightness L*, 0 (black) to 100 (white).",
    "contrast": "Standard deviation of CIE lightness L* (RMS contrast), 0 to 50.",
    "meanRed": "Mean of the red channel, 0 to 1.",
    "meanGreen": "Mean of the green channel, 0 to 1.",
    "meanBlue": "Mean of the blue channel, 0 to 1.",
    "stdRed": "Standard deviation of the red channel, 0 to 0.5.",
    "stdGreen": "Standard deviation of the green channel, 0 to 0.5.",
    "stdBlue": "Standard deviation of the blue channel, 0 to 0.5.",
    "uniformRowRatio": "Share of rows that show next to no structure; high in broken frames.",
}
