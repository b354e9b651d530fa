"""Why a cell of the table has no figure."""


class Unavailable(Exception):
    """This machine cannot do it; the text says what it lacks. No fault."""


class Failed(Exception):
    """It should have worked; the text says what happened. The bench goes on, and exits with 1."""
