"""What a set of rows is made of."""
import dataclasses
from collections.abc import Callable

MORE, LESS = "more", "less"  # is better


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    title: str
    unit: str
    better: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Gives the values of its rows in one go: run(stage, carrier) -> {name of the row: number}.

    It raises Unavailable or Failed with a reason where there is none.
    """
    rows: tuple[Row, ...]
    run: Callable
    prepare: Callable = None  # prepare(stage), before the first round: what is known for all carriers
