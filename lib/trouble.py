"""What can be wrong with the data? Errors whose message is for the user: what is wrong, and what to do."""


class SourceError(RuntimeError):
    """Images or weights that cannot be had."""


class IndexingError(ValueError):
    """Images that cannot be used as a data set."""
