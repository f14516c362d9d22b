"""Errors for the person who meets them: every message says what was wrong, where, and what to do.

The command line prints the message of a `PseudowordError` as one sentence and no traceback; flows retry a
`ServiceError` and nothing else.
"""


class PseudowordError(Exception):
    """Base of all errors whose message is meant for a person."""


class InputError(PseudowordError):
    """What the user gave cannot be used: pictures, names, words, paths, model folders, settings."""


class NotFoundError(PseudowordError):
    """A concept, version, object or file that was asked for does not exist."""


class WithdrawnError(NotFoundError):
    """A word was withdrawn or forgotten by a person; copies of it are not to be used either."""


class IntegrityError(PseudowordError):
    """Stored data is not what its digest or its schema says; nothing of it was used."""


class ConflictError(PseudowordError):
    """Somebody else changed the same object first; read it again and decide anew."""


class ServiceError(PseudowordError):
    """A server (store, tracking, orchestrator) cannot be reached or failed; trying again may help."""


class TrainingError(PseudowordError):
    """Training cannot go on: non-finite numbers, vectors that do not move."""


class PausedError(PseudowordError):
    """Training has used up its time; the same work goes on from its state when it is asked for again."""
