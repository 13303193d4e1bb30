"""Every figure: of one panel `f(result, *, ax=None) -> ax`, of several `f(result) -> figure`. One module a room of the study, one style for all."""
