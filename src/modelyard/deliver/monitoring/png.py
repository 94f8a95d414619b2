"""The monitors' own drawings as PNG, for mail and chat, which show no SVG. Needs the standard library alone."""

import re
import struct
import zlib

SHAPE = re.compile(r"<(rect|line|polyline)\s([^>]*?)/?>")
ATTRIBUTE = re.compile(r"([\w-]+)='([^']*)'")
SIZE = re.compile(r"<svg[^>]*\bwidth='(\d+)'[^>]*\bheight='(\d+)'")
SCALE = 2
MARGIN = 8
MOST_PIXELS = 4_000_000


def render(svg: str) -> bytes | None:
    """A PNG of a drawing of `drawings`: bars and lines on white, without its words. None for anything else."""
    size = SIZE.search(svg)
    if size is None:
        return None
    canvas = _Canvas((int(size[1]) + 2 * MARGIN) * SCALE, (int(size[2]) + 2 * MARGIN) * SCALE)
    if canvas.width * canvas.height > MOST_PIXELS:
        return None
    for shape, written in SHAPE.findall(svg):
        held = dict(ATTRIBUTE.findall(written))
        if shape == "rect":
            x, y, width, height = (_at(held[name]) for name in ("x", "y", "width", "height"))
            right, bottom = x + width - MARGIN * SCALE, y + height - MARGIN * SCALE
            canvas.fill(x, y, right, bottom, held["fill"], float(held.get("fill-opacity", 1)))
        elif shape == "line":
            ends = [(_at(held["x1"]), _at(held["y1"])), (_at(held["x2"]), _at(held["y2"]))]
            canvas.stroke(ends, held["stroke"], dashed="stroke-dasharray" in held)
        else:
            spots = [tuple(map(_at, spot.split(","))) for spot in held["points"].split()]
            canvas.stroke([(spot[0], spot[1]) for spot in spots], held["stroke"])
    return canvas.png()


def _at(text: str) -> float:
    return (float(text) + MARGIN) * SCALE


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows = [bytearray(b"\xff" * (3 * width)) for _ in range(height)]

    def fill(self, left: float, top: float, right: float, bottom: float, colour: str, opacity: float = 1.0) -> None:
        """Blend a rectangle in; parts outside are cut off."""
        first, last = max(0, round(left)), min(self.width, round(right))
        ink = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        for row in self._rows[max(0, round(top)) : max(0, min(self.height, round(bottom)))]:
            for across in range(first, last):
                for channel in range(3):
                    place = 3 * across + channel
                    row[place] = round(row[place] * (1 - opacity) + ink[channel] * opacity)

    def stroke(self, spots: list[tuple[float, float]], colour: str, dashed: bool = False) -> None:
        """A line of two pixels' width, and a dot where it is only one point."""
        for start, end in zip(spots, spots[1:] or spots, strict=False):
            steps = max(1, round(max(abs(end[0] - start[0]), abs(end[1] - start[1]))))
            for step in range(steps + 1):
                if dashed and step // (4 * SCALE) % 2:
                    continue
                x = start[0] + (end[0] - start[0]) * step / steps
                y = start[1] + (end[1] - start[1]) * step / steps
                self.fill(x - 1, y - 1, x + 2, y + 2, colour)

    def png(self) -> bytes:
        """Source: PNG specification, third edition: 8-bit RGB, no filter."""
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in self._rows), 6)
        parts = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
        chunks = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
