"""What dropout costs where several processes train together: measured here on 1 and 2, modelled and simulated for more.

``python -m trust.scale measure`` times the steps and writes docs/scale/measured.json; ``python -m trust.scale page``
makes docs/scale.md and its pictures of it.
"""
