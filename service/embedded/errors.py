"""The one error of this package."""


class EmbeddedError(Exception):
    """An embedded server cannot be used; the message is one sentence that says what to do, and may quote a log."""
