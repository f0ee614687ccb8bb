"""Everything that proves certificates. It needs torch alone; packages carry the part they use."""
