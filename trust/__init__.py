"""Proofs that are too long for the tests: statistics, fuzzing, sweeps. What they find is what docs/trust.md says."""
