"""The sets of rows, by the name that `./run bench` takes."""
from . import connect, memory

SETS = {"connect": connect.EXPERIMENTS, "memory": memory.EXPERIMENTS}
