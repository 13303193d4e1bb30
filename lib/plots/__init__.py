"""Every figure: `f(result, *, ax=None) -> ax`. One module a room of the study, one style for all."""
