"""Derivatives around a point: Jacobians there, and how far they move in a region."""
