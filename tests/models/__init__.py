"""Tests of the families, and of what they share."""
