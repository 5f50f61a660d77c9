"""What a run takes: expected by its plan, counted at its end, and at what cost."""
