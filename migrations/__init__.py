"""Alembic migrations: expand first, contract later."""
