"""Charts: what is drawn where, and that nothing breaks the markup."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from nnc_onnx.rd.charts import Axis, Level, Point, Series, chart, standalone

SVG = "{http://www.w3.org/2000/svg}"
LOG = Axis("bytes", log=True)
LINEAR = Axis("metric")


def circles(svg: str, colour: str = "s0") -> list[tuple[float, float]]:
    """Centres of the points of a colour, the legend's left out."""
    found = [c for c in ElementTree.fromstring(svg).iter(f"{SVG}circle") if c.get("class", "").startswith(colour)]
    return [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in found if c.get("cy") != "14"]


def test_larger_values_are_further_right_and_up():
    svg = chart("t", [Series("a", [Point(1, 1), Point(10, 2), Point(100, 3)], line=True)], LOG, LINEAR)
    (x0, y0), (x1, y1), (x2, y2) = circles(svg)
    assert x0 < x1 < x2 and y0 > y1 > y2
    assert math.isclose(x1 - x0, x2 - x1, abs_tol=0.11), "decades are equally wide"
    assert "M" in next(
        p.get("d", "") for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if "path" in p.get("class", "")
    )


def test_points_that_an_axis_cannot_show_are_left_out():
    points = [Point(0, 1), Point(-1, 1), Point(math.nan, 1), Point(1, math.inf), Point(5, 5)]
    assert len(circles(chart("t", [Series("a", points)], LOG, LINEAR))) == 1


def test_labels_do_not_cover_each_other():
    svg = chart("t", [Series("a", [Point(1, 1, label="first"), Point(1, 1, label="second")])], LINEAR, LINEAR)
    places = {t.text: (t.get("x"), t.get("y")) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert places["first"] != places["second"]


def test_a_file_of_its_own_has_its_style():
    svg = standalone(chart("t", [Series("a", [Point(1, 2)])], LINEAR, LINEAR, levels=[Level(2, "fp32")]))
    root = ElementTree.fromstring(svg)
    assert root[0].tag == f"{SVG}style" and "prefers-color-scheme:dark" in (root[0].text or "")
    assert "fp32" in svg


finite = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(st.tuples(finite, finite, st.text()), max_size=20), st.text(), st.booleans(), st.booleans())
def test_any_points_and_names_give_well_formed_svg(points, name, log_x, log_y):
    series = Series(name, [Point(x, y, text, text) for x, y, text in points], line=True)
    svg = chart(name, [series], Axis(name, log=log_x), Axis(name, log=log_y))
    ElementTree.fromstring(standalone(svg))
