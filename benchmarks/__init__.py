"""Benchmarks. Speeds are ratios of runs that are measured side by side."""
