"""Data sources and the tasks made from them."""
