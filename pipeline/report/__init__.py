"""Reports for people: cards, galleries, charts, HTML pages and terminal text."""
