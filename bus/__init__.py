"""NATS for Django: streams, transactional outbox, dispatch to handlers, fast pull, quarantine."""
