"""Recipes that train a network under DP-SGD (extra `neural`); torch and Opacus are imported when a fit begins."""
