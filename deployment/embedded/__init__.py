"""PostgreSQL, Redis and NATS on this machine, and the supervisor of the portal's processes.

Nothing here imports Django: the servers must run, and the environment must name them, before settings
are read.
"""
