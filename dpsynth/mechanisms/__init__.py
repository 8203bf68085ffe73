"""One file a mechanism: its noise and its cost side by side."""
