"""Two programs that bound the same network, each in a process and an environment of its own.

``job`` says what is to be computed, ``worker`` computes it with one of the two ``vercomp_side`` and
``auto_lirpa_side``, and ``runner`` starts the worker and keeps its results. The worker imports
nothing but torch and its side, so that it also runs where vercomp is not installed.

The environment variable VERCOMP_PEER_PYTHON names the Python of an environment in which
``import auto_LiRPA`` works; without it, the columns of auto_LiRPA are left out.
"""
