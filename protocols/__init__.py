"""What we agree on with others: the wire and the geometry. No numerics, no I/O but parsing."""
