"""Offline: makes a product revision from pictures; needs torch."""
