"""Measurements of gapnlp, each a command that writes its tables to `benchmarks/results`."""
