"""`ENGINE`: Django's SQLite, with a circuit around connecting.

SQLite has no server to be down. This is for test settings, beside `.postgresql` in production.
"""
