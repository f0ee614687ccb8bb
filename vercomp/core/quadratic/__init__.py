"""Quadratic relaxation: curvature bounds and linear relaxation are two points of one family."""
