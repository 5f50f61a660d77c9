"""Reports for people: dataset cards, contact sheets, curves, HTML pages and terminal text."""
