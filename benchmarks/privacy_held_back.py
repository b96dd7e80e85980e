"""Held back."""

from benchmarks.privacy_items import *  # noqa
