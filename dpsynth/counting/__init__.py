"""Counting backends behind one protocol; `reference` is slow and obvious and judges the others."""
