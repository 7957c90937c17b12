"""The command `diagram`: the state table, drawn as SVG or as text."""
