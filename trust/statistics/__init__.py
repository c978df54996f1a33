"""Statistical tests of fastdrop's masks and normals, and of the tests themselves.

`sources` is where bits come from, `broken` the generators that have to be caught, `suite` what runs all families on one
of them, `calibration` what tests the tests; each family has a file. `python -m trust.statistics --help` says what each
family detects.
"""
