"""Neural networks and what runs them: one interface, one file per runtime, one store of weights."""
