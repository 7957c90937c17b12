"""`ENGINE`: Django's MySQL and MariaDB, with a circuit around connecting."""
