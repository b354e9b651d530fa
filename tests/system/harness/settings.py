"""Where the built programs are (set from the command line by case.main)."""
import os

build = None
replaced = {}  # programs that are taken from elsewhere: name -> path


def binary(name):
    path = replaced.get(name) or os.path.join(build, "bin", name)
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is missing: build the project first")
    return path


def program(name):
    """A test program, from tests/programs."""
    return binary(os.path.join("tests", name))
