"""Holdfast: the place where AI agents keep their conversations."""

__version__ = "0.1.0"
