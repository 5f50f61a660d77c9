"""Networks that learn: one replica per rank, learning rates, averages and first weights."""
