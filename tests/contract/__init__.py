"""Tests of the contract, and of the families against it."""
