"""Benchmarks: run them from the repository's root, `make bench`. README.md defines the units."""
