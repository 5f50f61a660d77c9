"""Files that describe others: where they are, and their columns for the rows that they describe."""
