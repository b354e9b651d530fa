"""Where the parts of a window on a file are: what src/layout/device.h and src/layout/section.h say."""
import struct

HEAD_BYTES = 2 << 20
CONTROL_BYTES = 96 << 10  # header, lanes, and the first entries and messages of each
AREA_HEAD_BYTES = 8 << 10  # what is in front of an area's segments, and a bit of those


class WindowMap:
    """Read while the window is still in order. Parts are (offset, bytes)."""

    def __init__(self, path):
        with open(path, "rb") as f:
            (self.size, self._granule, self._section_bytes, _, self._areas, self._area_stride,
             self._section_stride) = struct.unpack("<QQQIIQQ", f.read(72)[24:])

    def all(self):
        return 0, self.size

    def head(self):
        return 0, 8192

    def section(self, number):
        return HEAD_BYTES + (number - 1) * self._section_stride, self._section_stride

    def hot(self, number):
        """The parts of a section in which few bytes decide much."""
        begin, _ = self.section(number)
        arena = begin + -(-self._section_bytes // self._granule) * self._granule
        return [(begin, CONTROL_BYTES)] + [(arena + i * self._area_stride, AREA_HEAD_BYTES)
                                           for i in range(self._areas)]
