"""Every figure: of one panel `f(result) -> ax`, of several `f(result) -> figure`. One module a room of the study, one style for all.

What is also a panel of a larger figure takes `ax`, the axes to draw into. Of `bench.speed` the first of two panels comes back.
"""
