"""Basis of the benchmarks: options, inputs, limits and goals of a machine, contenders, checks in own processes."""
