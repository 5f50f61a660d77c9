"""The error that is the user's to put right."""


class UserError(Exception):
    """Something that the user can put right before any work is done. One line: what, on what, what to do.

    Not a ValueError: the parser of the command line reports those itself, in a frame.
    """
