"""What Boreside agrees on with others: the wire, the geometry. No numerics, no I/O beyond parsing."""
