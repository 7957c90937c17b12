"""Reading settings: expressions and values become a breaker's arguments, or clear errors."""
