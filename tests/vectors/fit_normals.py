"""Fit the polynomials behind the normals again, and print them: `python tests/vectors/fit_normals.py`.

Minimax fits by Lawson's iteration: least squares at Chebyshev points, reweighted by the error. Each coefficient, lowest
degree first, is rounded to float32 and the rest fitted again, so that what one rounding loses the others make good.
"""

from __future__ import annotations

import math

import numpy as np

POINTS, ITERATIONS, TERMS = 2000, 400, 80


def lawson(basis, target, weight):
    """Coefficients whose largest weighted error is the least."""
    share, best, least = np.ones(len(target)), None, math.inf
    for _ in range(ITERATIONS):
        root = np.sqrt(share) * weight
        coefficients = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)[0]
        error = np.abs((basis @ coefficients - target) * weight)
        if error.max() < least:
            best, least = coefficients, error.max()
        share = share * error / (share * error).sum()
    return best


def fit(x, target, weight, degree):
    """Coefficients in float32, lowest first, and their largest weighted error."""
    rest, found = target.copy(), []
    for k in range(degree + 1):
        basis = np.stack([x**i for i in range(k, degree + 1)], 1)
        found.append(float(np.float32(lawson(basis, rest, weight)[0])))
        rest = rest - found[-1] * x**k
    return found, float(np.abs(rest * weight).max())


def chebyshev(low, high):
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)


def series(x, term):
    """The sum of term(k) * x**k, smallest first."""
    return sum(term(k) * x**k for k in range(TERMS - 1, -1, -1))


def polynomials():
    """Name, coefficients and relative error of P (of log), S (of sin) and C (of cos)."""
    s = chebyshev(math.sqrt(0.5) - 1, math.sqrt(2) - 1)
    yy, turn = chebyshev(0, 1 / 64), 2 * math.pi
    sin = series(yy, lambda k: (-1) ** k * turn ** (2 * k + 1) / math.factorial(2 * k + 1))
    cos = series(yy, lambda k: -((-1) ** k) * turn ** (2 * k + 2) / math.factorial(2 * k + 2))
    return {
        "P": fit(s, series(s, lambda k: (-1) ** k / (k + 3)), s**3 / np.log1p(s), 7),
        "S": fit(yy, sin, 1 / sin, 3),
        "C": fit(yy, cos, yy / (1 + yy * cos), 3),
    }


if __name__ == "__main__":
    for name, (coefficients, error) in polynomials().items():
        print(f"{name}, relative error {error:.1e}, lowest first:", *(c.hex() for c in coefficients))
