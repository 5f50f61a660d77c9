"""Engine that carries the units of a job through its stages, each published exactly once."""
