"""One run: its components, its stages in order, what it depends on and what it leaves behind."""
