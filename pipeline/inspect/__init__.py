"""What is in a store: counts, columns, formats, sizes, duplicates, what does not decode, and a contact sheet."""
