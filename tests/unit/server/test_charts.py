"""Drawings of the console: what can be read in them."""

import re

from modelyard.server.pages.charts import MOST_LABELS, Point, trend


def test_names_below_a_line_leave_each_other_room() -> None:
    for count in (1, 8, 9, 20, 40):
        drawn = str(trend([Point(f"at {number}", 1.0 + number) for number in range(count)], "a line"))
        assert 1 <= len(re.findall(">at [0-9]+<", drawn)) <= MOST_LABELS
