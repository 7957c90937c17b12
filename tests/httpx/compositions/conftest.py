"""Run by the session `compositions`, which installs what is composed with and sets
FLUXGATE_COMPOSITIONS; the other sessions don't look in here."""
