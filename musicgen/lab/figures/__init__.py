"""Figures: their style, piano rolls, charts, the architecture, and what attention looks at."""
