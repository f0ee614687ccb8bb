"""vercomp: a verification compiler for neural networks."""
