"""Errors a person can act on."""


class ZooError(Exception):
    """Something the caller can put right; printed without a traceback."""


class DataError(ZooError):
    """The data folder lacks a file or a file lacks a column."""
