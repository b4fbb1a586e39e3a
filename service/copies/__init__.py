"""Copies of answers in Redis: how they are written down, kept true, and asked for."""
