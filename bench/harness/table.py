"""The figures as people and programs read them."""
import statistics


def figure(value):
    """Three digits or all that stand before the point, in groups: 0.0123, 4.56, 78.9, 12 345."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}".replace(",", " ")
    if size >= 0.01:
        return f"{value:.{1 if size >= 10 else 2 if size >= 1 else 3}f}"
    return f"{value:.3g}"


def spread(values):
    """"MEDIAN (LEAST to MOST)"; of one value, or of equal ones, that alone."""
    least, middle, most = (figure(f(values)) for f in (min, statistics.median, max))
    return middle if least == most else f"{middle} ({least} to {most})"


def ratio(ours, theirs):
    """The median of the rounds' ratios; None where one of them has no meaning."""
    if not ours or not theirs or any(t <= 0 for t in theirs) or any(o < 0 for o in ours):
        return None
    return statistics.median(o / t for o, t in zip(ours, theirs))


def _reasons(shown, carriers, results):
    """{(rows, titles of carriers): reason}, so that one reason is said once."""
    titles = {}  # (reason, row) -> titles
    for carrier in carriers:
        for (row, name), reason in results.reasons.items():
            if name == carrier.name and row in shown:
                titles.setdefault((reason, row), []).append(carrier.title)
    rows = {}  # (reason, titles) -> rows
    for (reason, row), of in titles.items():
        rows.setdefault((reason, tuple(of)), []).append(row)
    return {(tuple(names), of): reason for (reason, of), names in rows.items()}


def lines(rows, carriers, results, notes):
    """The table, then reasons and notes."""
    table = [["", "unit", "better", *(c.title for c in carriers), "Shunt/TCP"]]
    for row in rows:
        cells = []
        for carrier in carriers:
            values = results.values.get((row.name, carrier.name))
            cells.append(spread(values) if values else "-")
        times = ratio(results.values.get((row.name, "shunt")), results.values.get((row.name, "tcp")))
        cells.append("-" if times is None else figure(times))
        table.append([f"{row.name:<19}{row.title}", row.unit, row.better, *cells])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        left = [text.ljust(width) for text, width in zip(line[:3], widths)]
        right = [text.rjust(width) for text, width in zip(line[3:], widths[3:])]
        yield "  ".join(left + right).rstrip()
    yield ""
    yield "Medians (least to most); Shunt/TCP is the median of the rounds' ratios."
    shown = {row.name for row in rows}
    for (names, titles), reason in _reasons(shown, carriers, results).items():
        yield f"no figure: {', '.join(names)} ({', '.join(titles)}): {reason}"
    for text, names in notes.items():
        if names := [name for name in names if name in shown]:
            yield f"{', '.join(names)}: {text}"


def as_json(rows, carriers, results, notes):
    """The rows for --json: every single value."""
    out = []
    for row in rows:
        cells = {}
        for carrier in carriers:
            key = (row.name, carrier.name)
            if values := results.values.get(key):
                cells[carrier.name] = {"values": values, "median": statistics.median(values), "min": min(values),
                                       "max": max(values)}
            else:
                cells[carrier.name] = {"reason": results.reasons[key]}
        times = ratio(results.values.get((row.name, "shunt")), results.values.get((row.name, "tcp")))
        out.append({"name": row.name, "title": row.title, "unit": row.unit, "better": row.better, "carriers": cells,
                    "shunt_to_tcp": times, "notes": [text for text, names in notes.items() if row.name in names]})
    return out
