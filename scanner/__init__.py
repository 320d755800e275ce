"""The virtual scanner: digital spine phantom, MR physics, and a client like a scanner's."""
