"""An area (src/layout/area.h) as lines, for shunt.py."""

from shunt_memory import ERRORS, number, plural, put

# Of src/layout/area.h and src/wire/version.h.
MAGIC = 0x31544853
FLAGS = {1: "FIN", 2: "RESET", 4: "CLOSED", 8: "PLAIN"}
SWITCH = ("carrying", "switching", "plain", "leaving")
FATES = ("open", "peer closed", "reset")


def word(names, value):
    return names[value] if value < len(names) else f"{value} (unknown)"


def flags_text(flags):
    unknown = flags & ~sum(FLAGS)
    names = [name for bit, name in FLAGS.items() if flags & bit] + ([f"{unknown:#x} (unknown)"] if unknown else [])
    return "|".join(names) or "none"


def header_text(header):
    magic = number(header["magic"])
    return (f"magic {'ok' if magic == MAGIC else f'{magic:#x} (not an area)'}, version {number(header['version'])}, "
            f"generation {number(header['generation']):#x}, "
            f"{number(header['segment_count'])} segments of {number(header['segment_bytes'])} bytes, "
            f"{number(header['area_bytes'])} bytes in all")


def hot_text(hot, header):
    inline = number(hot["inline_bytes"])
    inline_text = f"{inline} bytes from {number(hot['inline_start'])}" if inline else "nothing"
    generation = number(hot["generation"])
    return (f"head {number(hot['head'])}, tail_echo {number(hot['tail_echo'])}, "
            f"flags {flags_text(number(hot['flags']))}, recv_waiting {number(hot['recv_waiting'])}, "
            f"send_waiting {number(hot['send_waiting'])}, inline {inline_text}"
            + (f", generation {generation:#x}, not the header's" if generation != number(header["generation"]) else ""))


def segment_text(segment, reader_begin):
    base, begin, end, length = (number(segment[name]) for name in ("base", "begin", "end", "length"))
    return (f"base {base}, begin {begin}, end {end}, length {length}, next {number(segment['next'])}"
            + (", last" if number(segment["last"]) else "") + reader_begin)


def reader_begin_text(other, index):
    """How far the reader has come in it: in the reader's own area."""
    if other is None:
        return ""
    try:
        return f"; reader's begin {number(other['begin'][index])}"
    except ERRORS as e:
        return f"; reader's begin cannot be read: {e}"


def print_segments(area, other, start):
    """The circle of linked segments, from the one with the earliest unread byte on."""
    if number(area["hot"]["head"]) == 0:
        put("segments", lambda: "none used yet")
        return
    segments = area["segment"]
    count = segments.type.range()[1] + 1
    index, seen = start(), []
    while index < count and index not in seen:
        seen.append(index)
        put(f"segment {index}",
            lambda index=index: segment_text(segments[index], reader_begin_text(other, index)))
        index = number(segments[index]["next"])
    if index >= count:
        put("segments", lambda: f"{index} is no segment")
    elif index != seen[0]:
        put("segments", lambda: f"the links are no circle: back to {index}")
    put("segments", lambda: plural(len(seen), "segment") + " linked")


def print_area(area, other, start, relayed):
    """`other`: the opposite area, or None. `start()`: a segment of this area's stream to begin with."""
    put("header", lambda: header_text(area["header"]))
    put("hot", lambda: hot_text(area["hot"], area["header"]))
    put("tail", lambda: f"tail {number(area['tail']['tail'])}, segment {number(area['tail']['segment'])}")
    put("switch", lambda: f"{word(SWITCH, number(area['switch_line']['plain']))}, "
        f"ringing {number(area['switch_line']['ringing'])}")
    if relayed:
        put("fate", lambda: word(FATES, number(area["fate_line"]["fate"])))
    try:
        print_segments(area, other, start)
    except ERRORS as e:
        put("segments", lambda e=e: f"cannot be read: {e}")
