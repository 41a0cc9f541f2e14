"""NATS credentials: keys, permissions by kind, logins and their revocation. No Django here.

    store = KeyStore.load(path)
    credential = store.issue_agent("org.claytom.pricing.operator.op-0042-g1")
    store.revoke(credential.public_key)
    push(store, url)

The embedded stack makes the keys before there is a database, so this package must work without settings.
"""

from bus.credentials.keystore import LIFE_S, LONGEST_S, Credential, KeyStore
from bus.credentials.logins import Logins
from bus.credentials.push import push, push_async
from claytom_agent.login import CredentialsError

__all__ = ["LIFE_S", "LONGEST_S", "Credential", "CredentialsError", "KeyStore", "Logins", "push", "push_async"]
