"""Parts of the page of a report: its style and script, pictures, galleries and charts."""
