"""The families: one file each, torch modules, readable from top to bottom. Imports the contract alone."""
