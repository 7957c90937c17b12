"""`ENGINE`: Django's PostgreSQL, with a circuit around connecting."""
