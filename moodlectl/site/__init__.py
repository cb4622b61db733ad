"""Moodle, as an action sees it: the port, and the two sites that answer it."""
