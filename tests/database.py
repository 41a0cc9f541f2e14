"""The test database: migrated once as its owner, used as the application's role, emptied as superuser."""

import psycopg
from psycopg import sql

PRISTINE = "pristine"
LOCK_SECONDS = 10

TABLES = """
    select c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
       and c.relname <> 'django_migrations'
     order by 1
"""
COLUMNS = """
    select attname from pg_attribute
     where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''
     order by attnum
"""
SEQUENCES = """
    select sequencename, last_value from pg_sequences where schemaname = 'public' and last_value is not null
"""


class TestDatabase:
    """Brings the database back to the state that the migrations left.

    A test that commits cannot be rolled back, the application's role may not truncate, and the ledger's
    triggers refuse everybody; so a superuser does it with triggers and foreign keys out of force.
    """

    __test__ = False

    def __init__(self, superuser_dsn: str) -> None:
        self._dsn = superuser_dsn
        self._tables: list[str] = []
        self._seeded: dict[str, sql.Composed] = {}
        self._sequences: list[tuple[str, int]] = []

    def remember(self) -> None:
        """Keep what the migrations wrote; call once, after them."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(PRISTINE)))
            self._tables = [name for (name,) in connection.execute(TABLES)]
            for table in self._used(connection):
                self._seeded[table] = self._copy(connection, table)
            self._sequences = [(name, value) for name, value in connection.execute(SEQUENCES)]

    def _copy(self, connection: psycopg.Connection, table: str) -> sql.Composed:
        """Copy a table aside and return the statement that brings its rows back."""
        there, here = sql.Identifier(PRISTINE, table), sql.Identifier("public", table)
        names = connection.execute(COLUMNS, [f'public."{table}"']).fetchall()
        columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in names)
        connection.execute(sql.SQL("create table {} as select {} from {}").format(there, columns, here))
        return sql.SQL("insert into {} ({}) overriding system value select * from {}").format(here, columns, there)

    def reset(self) -> None:
        """Empty what tests have written and bring back the rows of the migrations.

        Raises:
            RuntimeError: a connection that a test left open holds a lock.
        """
        with psycopg.connect(self._dsn) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{LOCK_SECONDS}s")))
            used = self._used(connection)
            if not used:
                return
            try:
                connection.execute(
                    sql.SQL("truncate {} restart identity cascade").format(
                        sql.SQL(", ").join(sql.Identifier("public", table) for table in used)
                    )
                )
            except psycopg.errors.LockNotAvailable as error:
                raise RuntimeError(
                    "A transaction that the test left open holds a lock; close connections of threads and "
                    "processes before the test ends."
                ) from error
            for statement in self._seeded.values():
                connection.execute(statement)
            for name, value in self._sequences:
                connection.execute("select setval(%s::regclass, %s)", [f'public."{name}"', value])

    def _used(self, connection: psycopg.Connection) -> list[str]:
        """The tables with rows."""
        if not self._tables:
            return []
        probes = sql.SQL(" union all ").join(
            sql.SQL("(select {} from {} limit 1)").format(sql.Literal(table), sql.Identifier("public", table))
            for table in self._tables
        )
        return [name for (name,) in connection.execute(probes)]
