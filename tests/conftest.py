"""Shared test modules (networks, graphs, attacks) lie beside this file, which puts it on the path."""
