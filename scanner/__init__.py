"""The virtual scanner: digital spine phantom, MR physics, and a client that behaves as a scanner does."""
