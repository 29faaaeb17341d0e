"""Benchmarks for difference understanding."""
