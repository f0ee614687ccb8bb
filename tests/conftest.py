"""Modules that tests share lie beside this file, which puts their folder on the path."""
