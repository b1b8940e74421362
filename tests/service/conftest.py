"""Fixtures of the service's tests."""

from tests.service.redis_server import redis_server

__all__ = ["redis_server"]
