"""Wrong calls by the hundred thousand: each gives an exception that names what was wrong, and changes nothing.

python -m trust.sweep --n 100000 --seed 0      the calls of a seed
python -m trust.sweep --seed 0 --only 1234     one of them alone
"""
