"""Randomised smoothing: another classifier, made of a network and noise, and what is proved of it.

Everything here is probable: it holds up to the failure of a finite sample, of known probability.
"""
