"""Masks to polygons and back, checked pixel by pixel."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightly_fs.annotations import polygons, rle

masks = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda shape: arrays(np.bool_, shape, elements=st.booleans(), fill=st.booleans())
)
places = st.integers(-80, 320).map(lambda n: n / 13)
corners = st.lists(
    st.tuples(places.map(lambda x: x + 0.01), places.map(lambda y: y + 0.003)),
    min_size=3,
    max_size=7,
)


def inside(points, height, width):
    """Return by the even-odd rule which pixels' centres are inside, one edge and pixel by one.

    Edges through the centre of a pixel are not looked at: there it is a matter of rounding.
    """
    found = np.zeros((height, width), np.bool_)
    ends = [*points[1:], points[0]]
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(points, ends, strict=True):
                if (y0 > y) != (y1 > y):
                    crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                    assume(abs(crossing - x) > 1e-9)
                    found[row, column] ^= crossing < x
    return found


@given(masks)
def test_the_outline_of_a_mask_gives_the_mask_back(mask):
    height, width = mask.shape
    counts = rle.encode(mask).tolist()

    outline = polygons.outline(counts, height, width)

    if not mask.any():
        assert outline.shape == (0, 2)
        return
    assert polygons.draw([outline.ravel().tolist()], height, width) == counts
    assert (outline >= 0).all()
    assert (outline <= (width, height)).all()
    # As shares of the image with eight digits, which is what a YOLO file has.
    shares = [float(f"{share:.8g}") for share in (outline / (width, height)).ravel().tolist()]
    again = (np.reshape(shares, (-1, 2)) * (width, height)).ravel().tolist()
    assert polygons.draw([again], height, width) == counts


@given(masks.filter(lambda mask: mask.any()))
def test_the_outline_goes_along_the_edges_of_pixels_and_back_on_its_links(mask):
    height, width = mask.shape
    outline = polygons.outline(rle.encode(mask).tolist(), height, width)

    edges = {}
    for one, other in zip(outline.tolist(), np.roll(outline, -1, axis=0).tolist(), strict=True):
        ends = frozenset((tuple(one), tuple(other)))
        if len(ends) == 2:
            edges[ends] = edges.get(ends, 0) + 1
    lengths = 0
    for ends, times in edges.items():
        (x0, y0), (x1, y1) = ends
        if times % 2:
            assert x0 == x1 or y0 == y1
            lengths += abs(x0 - x1) + abs(y0 - y1)
    padded = np.pad(mask, 1)
    around = (padded[1:] ^ padded[:-1]).sum() + (padded[:, 1:] ^ padded[:, :-1]).sum()
    assert lengths == around


def test_a_square_a_hole_and_two_parts():
    square = rle.encode(np.pad(np.ones((2, 3), np.bool_), 1)).tolist()
    assert polygons.outline(square, 4, 5).tolist() == [[1, 1], [4, 1], [4, 3], [1, 3]]
    ring = np.pad(np.ones((3, 3), np.bool_), 1)
    ring[2, 2] = False
    assert polygons.outline(rle.encode(ring).tolist(), 5, 5).tolist() == [
        *([1, 1], [4, 1], [4, 4], [1, 4], [1, 1]),
        *([2, 2], [3, 2], [3, 3], [2, 3], [2, 2]),
        [1, 1],
    ]


@given(st.lists(corners, min_size=1, max_size=3), st.integers(1, 25), st.integers(1, 25))
def test_several_polygons_cover_what_each_of_them_does(shapes, height, width):
    flat = [[number for corner in shape for number in corner] for shape in shapes]
    expected = [inside(shape, height, width) for shape in shapes]

    drawn = []
    for corner, one, shape in zip(shapes, flat, expected, strict=True):
        within = any(0 <= x < width and 0 <= y < height for x, y in corner)
        if not within and not shape.any():
            with pytest.raises(ValueError, match="outside of the image"):
                polygons.draw([one], height, width)
            drawn.append(shape)
            continue
        mask = rle.decode(polygons.draw([one], height, width), height, width)
        drawn.append(mask)
        if shape.any():
            assert np.array_equal(mask, shape)
        else:  # too thin: its corners
            assert 1 <= mask.sum() <= len(corner)
    if np.any(drawn):
        both = rle.decode(polygons.draw(flat, height, width), height, width)
        assert np.array_equal(both, np.any(drawn, axis=0))


def test_areas_as_pycocotools_has_them():
    # decode(merge(frPyObjects(…, 6, 8))).sum(), of a square, a triangle, and a bow that is crossed
    for points, area in (
        ([2, 1, 4, 1, 4, 3, 2, 3], 4),
        ([1, 1, 7, 1, 1, 5], 12),
        ([1, 1, 5, 5, 5, 1, 1, 5], 8),
    ):
        assert rle.area(polygons.draw([points], 6, 8)) == area


def test_what_is_too_thin_is_its_corners():
    assert polygons.draw([[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], 3, 3) == [4, 1, 4]
    assert polygons.draw([[0, 1, 2.9, 1, 0, 1]], 3, 3) == [3, 1, 1, 1, 3]


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([], "no polygon"),
        ([[1, 1, 2, 2]], "a polygon of 4 numbers"),
        ([[1, 1, 2, 2, 3]], "a polygon of 5 numbers"),
        ([[9, 9, 20, 9, 20, 20]], "outside of the image of 8 x 6 pixels"),
        ([[-9, 1, -2, 1, -2, 4]], "outside of the image"),
        ([[1e7, 1e7, -1e7, 1e7, 0, 9e6]], "outside of the image"),
    ],
)
def test_what_is_no_polygon_of_an_image(shapes, reason):
    with pytest.raises(ValueError, match=reason):
        polygons.draw(shapes, 6, 8)


def test_a_polygon_of_twenty_thousand_corners():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 500, (20_000, 2))

    counts = polygons.draw([points.ravel().tolist()], 500, 500)

    assert sum(counts) == 500 * 500
    # Edges in every direction cross every pixel's row many times: half of them an odd number.
    assert 0.45 < rle.area(counts) / 500**2 < 0.55
