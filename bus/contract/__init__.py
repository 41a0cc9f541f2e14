"""The published contract of `claytom/1`, from the registry: JSON Schemas, AsyncAPI document, `docs/messages.md`.

Nothing here needs Django or a connection. `manage.py message_docs` writes what is kept in the repository; the
portal serves the rest at `/api/asyncapi.json` and `/api/schemas/<message>.json`.
"""
