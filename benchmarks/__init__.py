"""Benchmarks: one runnable script per row of the performance page, each with its reference in the same run."""
