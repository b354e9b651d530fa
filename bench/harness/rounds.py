"""The carriers in turns, round by round."""
import time

from .errors import Failed, Unavailable


class Results:
    """Values by row and carrier; or the reason why there is none, which is the last word on that cell."""

    def __init__(self):
        self.values = {}   # (row name, carrier name) -> [a value for each round]
        self.reasons = {}  # (row name, carrier name) -> text
        self.failed = False

    def add(self, values, carrier):
        for row, value in values.items():
            self.values.setdefault((row, carrier.name), []).append(value)

    def refuse(self, rows, carrier, reason, fault):
        self.failed |= fault
        for row in rows:
            self.reasons[row.name, carrier.name] = reason
            self.values.pop((row.name, carrier.name), None)


def run_rounds(stage, experiments, carriers, rounds, progress):
    """Each round goes through the experiments, and each of these through the carriers: A B C A B C.

    `progress(text, passing)` is told what goes on; what is passing is of interest until the next text comes.
    """
    results = Results()
    start = time.monotonic()
    unprepared = []
    for experiment in experiments:
        try:
            if experiment.prepare:
                experiment.prepare(stage)
        except (Failed, Unavailable) as e:
            unprepared.append(experiment)
            for carrier in carriers:
                results.refuse(experiment.rows, carrier, str(e), isinstance(e, Failed))
    for number in range(1, rounds + 1):
        for experiment in experiments:
            if experiment in unprepared:
                continue
            for carrier in carriers:
                progress(f"round {number} of {rounds}: {experiment.rows[0].name}, {carrier.title}", True)
                _measure(stage, experiment, carrier, number, results)
        progress(f"round {number} of {rounds}: done after {time.monotonic() - start:.0f} s", False)
    return results


def _measure(stage, experiment, carrier, number, results):
    if (experiment.rows[0].name, carrier.name) in results.reasons:
        return
    try:
        results.add(experiment.run(stage, carrier), carrier)
    except Unavailable as e:
        results.refuse(experiment.rows, carrier, str(e), False)
    except Failed as e:
        results.refuse(experiment.rows, carrier, f"round {number}: {e}", True)
