"""Demo: pack, train, translate and evaluate in a row, on a small paired set."""
