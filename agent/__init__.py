"""The running agent: listener, sessions, spool, command line."""
