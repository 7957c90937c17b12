"""Management commands; Django looks for them in this package."""
