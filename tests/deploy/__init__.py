"""Tests of the container images and the compose files, as far as they can be read without a Docker engine."""
