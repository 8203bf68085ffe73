"""Measured results; every table in the README names the command here that makes it."""
