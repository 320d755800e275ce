"""The console page: what the technologist, the protocol engineer and the integrator look at.

A process of its own with lower priority (`boreside console`). It reads the events of the agent
(`agent.events`), serves them to browsers (Starlette, a hand-written page in `static/` that needs no
network but this one), and writes clicks back for the agent to act upon. It may be restarted at any
time; the agent does not notice. docs/console.md has the reasons.
"""
