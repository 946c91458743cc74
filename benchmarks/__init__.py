"""Timings and training studies that anyone can run again."""
