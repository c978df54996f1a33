"""How fast, and how near the limit: contenders, paired runs, the report of ``fastdrop bench``.

`cases` says what is measured, `contenders` who competes, `ready` how an answer is checked before it is timed, `paired`
how two are compared, `bars` what has to be cleared, `report` what is written. The limits, copies of the same bytes,
are compiled: `_limits`. DropConnect's is the dense product; `blas` tells BLAS its threads. Importing this package
needs NumPy alone; peers are imported by those who ask for them.
"""
