"""Contrasts that were never acquired, each from what was: physics first."""
