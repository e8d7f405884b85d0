"""The errors that users see: every message names the file and the remedy."""


def one_line(error: Exception, length: int = 160) -> str:
    """Another library's error message as one line of at most `length` characters; its type where it has none."""
    return " ".join(str(error).split())[:length] or type(error).__name__


class SfMError(Exception):
    """Base of all errors that are reported as one line, without a traceback (exit code 2).

    Control characters and line breaks are escaped: file names are untrusted.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return "".join(c if c.isprintable() or c == "\u00a0" else c.encode("unicode_escape").decode() for c in text)


class BadImage(SfMError):
    """An image cannot be used: missing, empty, corrupt or not an image."""


class BadFile(SfMError):
    """Any other input file or folder cannot be used: weights, pairs, database, model."""


class BadOption(SfMError):
    """An option has an invalid value, or options contradict each other."""


class MissingStage(SfMError):
    """The input of a stage has not been computed yet."""


class NoModel(SfMError):
    """The run ended without a model, or with one that is probably bad (exit code 3)."""
