"""Records of an output: its plan, its units, and the account of each unit."""
