"""Closed forms of the papers' theorems, each tested against brute force."""
