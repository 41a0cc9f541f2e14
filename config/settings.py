"""Settings of every process, from the environment alone (`.env.example` lists each variable).

Defaults are the secure ones. What is missing or contradictory is reported by `config.checks` with its remedy.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from claytom_agent.login import with_credentials
from config.pool import forgetting

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    """Return the environment variable `name`, without surrounding blanks."""
    return os.environ.get(name, default).strip()


def env_bool(name: str, default: bool = False) -> bool:
    """Return True for 1, true, yes, on (any case); `default` when the variable is absent or empty."""
    value = env(name).lower()
    return value in {"1", "true", "yes", "on"} if value else default


def env_list(name: str, default: str = "") -> list[str]:
    """Return the comma-separated parts of the variable `name`."""
    return [part.strip() for part in env(name, default).split(",") if part.strip()]


def env_number(name: str, default: float) -> float:
    """Return the variable `name` as a number; `default` when it is absent or empty."""
    try:
        return float(env(name) or default)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} is “{env(name)}”, which is no number; leave it empty for {default}."
        ) from error


# --- the machine -----------------------------------------------------------------------------------------
DATA_DIR = Path(env("DATA_DIR") or BASE_DIR / "var")
DEBUG = env_bool("DEBUG")
SECRET_KEY = env("SECRET_KEY")
SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS")  # former ones, while what they protect is still in use
PORTAL_URL = env("PORTAL_URL", "http://localhost:8000").rstrip("/")
# Origin of the live process; `:port` is the page's own host under another port; empty: same origin, behind a proxy.
LIVE_URL = env("LIVE_URL").rstrip("/")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = [PORTAL_URL, *env_list("CSRF_TRUSTED_ORIGINS")]
CHAOS_ENABLED = env_bool("CHAOS_ENABLED")
CLOCK_SPEED = env_number("CLOCK_SPEED", 1)  # business seconds per second; anything but 1 is marked on pages
AGENTS_PER_SUBSIDIARY = int(env_number("AGENTS_PER_SUBSIDIARY", 0))  # 0: as the holding file says
METRICS_TOKEN = env("METRICS_TOKEN")  # bearer token of /metrics; empty: only this machine may scrape
KPI_RETENTION_HOURS = int(env_number("KPI_RETENTION_HOURS", 6))
# What the process sees while nobody asks: `everything` (commands, tasks, handlers) or `nothing` (web and live,
# which open the rows of each account; holding.scope).
SCOPE = env("SCOPE", "nothing")
UNITS_AT_FIRST = "*" if SCOPE == "everything" else ""
HTTPS = urlsplit(PORTAL_URL).scheme == "https"

# --- applications ----------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "portal",
    "deployment",
    "subsidiaries.escalations",
    "subsidiaries.enrolment",
    "subsidiaries.commands",
    "subsidiaries.replacement",
    "subsidiaries.performance",
    "iam.authority",
    "allauth.account",  # before iam.access, which takes their tables off the admin
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "iam.access.apps.AccessConfig",
    "holding",
    "bus",
    "audit",
    "iam.access.apps.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_filters",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "csp",
]
MIDDLEWARE = [
    "portal.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "iam.access.middleware.language",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "iam.access.middleware.opened",
    "allauth.account.middleware.AccountMiddleware",
    "iam.access.signed_in.session_limits",
    "iam.access.signed_in.time_zone",
    "iam.access.signed_in.second_step_first",
    "iam.access.middleware.gate",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.holding",
            ],
        },
    }
]

# --- data ------------------------------------------------------------------------------------------------
# Migrations run as the role that owns the tables; every other process as a role that owns nothing. The
# ingest process (DATABASE_ROLE=ingest) may see all rows, since COPY is not possible under row-level security.
DATABASE_ROLE = env("DATABASE_ROLE", "app")
DATABASE_APP_URL = env("DATABASE_URL")
DATABASE_INGEST_URL = env("DATABASE_INGEST_URL", DATABASE_APP_URL)
DATABASE_URL = DATABASE_INGEST_URL if DATABASE_ROLE == "ingest" else DATABASE_APP_URL
DATABASE_OWNER_URL = env("DATABASE_OWNER_URL", DATABASE_APP_URL)
DATABASE_OWNER_ROLE = env("DATABASE_OWNER_ROLE", "claytom_owner")


def _database(url: str, **options: Any) -> dict[str, Any]:
    try:
        config = dict(dj_database_url.parse(url or "postgres://unset:unset@127.0.0.1:1/unset"))
    except ValueError as error:
        raise ImproperlyConfigured(
            "DATABASE_URL (or DATABASE_OWNER_URL, DATABASE_INGEST_URL) cannot be read; write it as "
            f"postgres://role:password@host:5432/database. {error}"
        ) from error
    given: Any = config.pop("OPTIONS", {})
    config["OPTIONS"] = {
        "connect_timeout": 5,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5000,
        "options": f"-c app.units={UNITS_AT_FIRST}",
        **given,
        **options,
    }
    return config


POOL = {"min_size": 1, "max_size": 8, "timeout": 5, "reset": forgetting(UNITS_AT_FIRST)}
DATABASES: dict[str, Any] = {
    "default": _database(DATABASE_URL, pool=POOL),
    "owner": _database(
        DATABASE_OWNER_URL,
        options="-c app.units=*"
        + (f" -c role={DATABASE_OWNER_ROLE}" if DATABASE_OWNER_URL != DATABASE_APP_URL else ""),
    ),
}
# A pooled connection may have died with a restart of the server: it is tried before it is lent.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["owner"]["TEST"] = {"MIRROR": "default"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env("REDIS_URL")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

# --- messages --------------------------------------------------------------------------------------------
# A credential file is named by the URL or beside it; with a user and a password in the URL there is none.
NATS_URL = with_credentials(env("NATS_URL"), env("NATS_CREDS"))
NATS_SYS_URL = with_credentials(env("NATS_SYS_URL"), env("NATS_SYS_CREDS"))
NATS_KEYS = env("NATS_KEYS")
NATS_PUBLIC_URL = env("NATS_PUBLIC_URL")  # where agents of other machines find NATS; empty: as NATS_URL

# --- tasks (reliability.md, facts 6 and 7: what a killed worker held runs again within seconds) -----------
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 55
CELERY_TASK_SOFT_TIME_LIMIT = 50
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 120,
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 1,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "arp-ensure": {
        "task": "subsidiaries.replacement.tasks.arp_tick",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "service-levels": {
        "task": "subsidiaries.replacement.tasks.levels_tick",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "escalations": {
        "task": "subsidiaries.escalations.tasks.escalations_tick",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "enrolment": {
        "task": "subsidiaries.enrolment.tasks.enrolment_tick",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "commands": {
        "task": "subsidiaries.commands.tasks.command_tick",
        "schedule": 2.0,
        "options": {"expires": 2},
    },
    "authority": {
        "task": "iam.authority.tasks.authority_tick",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "kpi-partitions": {
        "task": "subsidiaries.performance.tasks.maintain_partitions",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "emergency-access": {
        "task": "iam.access.tasks.settle_emergencies",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "suspects": {"task": "bus.tasks.settle_suspects", "schedule": 30.0, "options": {"expires": 30}},
    "bus-retention": {"task": "bus.tasks.retain", "schedule": 600.0, "options": {"expires": 600}},
}

# --- people ----------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "access.User"
AUTHENTICATION_BACKENDS = ["iam.access.backends.PeopleBackend"]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "sign-in"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_RESET_TIMEOUT = 3600
SESSION_ENGINE = "iam.access.session_store"
SESSION_COOKIE_AGE = 12 * 3600  # at most; iam.access.sessions ends a session earlier
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_bool("BEHIND_TLS_PROXY") else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "portal.views.errors.csrf_failure"

# --- second steps and the identity provider (django-allauth; its pages and rules are not used) -----------
MFA_REQUIRED = env("MFA_REQUIRED", "none") or "none"  # staff, all, none
MFA_ADAPTER = "iam.access.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1  # steps of 30 s that a clock may be off
MFA_RECOVERY_CODE_DIGITS = 12
ACCOUNT_ADAPTER = "iam.access.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_RATE_LIMITS = False  # portal.attempts counts
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if env_bool("BEHIND_TLS_PROXY") else 0
OIDC_NAME = env("OIDC_NAME")
OIDC_ISSUER = env("OIDC_ISSUER")
OIDC_CLIENT_ID = env("OIDC_CLIENT_ID")
OIDC_CLIENT_SECRET = env("OIDC_CLIENT_SECRET")
OIDC_GROUPS_CLAIM = env("OIDC_GROUPS_CLAIM", "groups") or "groups"
SOCIALACCOUNT_ADAPTER = "iam.access.adapters.ProviderAdapter"
SOCIALACCOUNT_LOGIN_ON_GET = True  # a form that leads to another origin is refused by form-action
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "SCOPE": ["openid", "profile", "email"],
        "APPS": [
            {
                "provider_id": "provider",
                "name": OIDC_NAME,
                "client_id": OIDC_CLIENT_ID,
                "secret": OIDC_CLIENT_SECRET,
                "settings": {"server_url": OIDC_ISSUER},
            }
        ]
        if OIDC_ISSUER and OIDC_CLIENT_ID
        else [],
    }
}


def _live_sources() -> list[str]:
    """What pages may connect to besides their own origin."""
    if not LIVE_URL.startswith(":"):
        return [LIVE_URL] if LIVE_URL else []
    names = [host for host in ALLOWED_HOSTS if "[" not in host and not host.startswith((".", "*"))]
    return [f"{'https' if HTTPS else 'http'}://{name}{LIVE_URL}" for name in names]


CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "font-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF, *_live_sources()],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# --- mail ------------------------------------------------------------------------------------------------
EMAIL_URL = env("EMAIL_URL")  # smtp://user:password@host:587/?tls=1, or smtps://...:465; empty: kept in MAIL_DIR
MAIL_DIR = DATA_DIR / "mail"
DEFAULT_FROM_EMAIL = env("EMAIL_FROM") or f"portal@{urlsplit(PORTAL_URL).hostname or 'localhost'}"
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend" if EMAIL_URL else "iam.access.mail.FolderBackend"
_mail = urlsplit(EMAIL_URL)
EMAIL_HOST = _mail.hostname or "localhost"
EMAIL_USE_SSL = _mail.scheme == "smtps"
EMAIL_USE_TLS = not EMAIL_USE_SSL and parse_qs(_mail.query).get("tls") == ["1"]
try:
    EMAIL_PORT = _mail.port or (465 if EMAIL_USE_SSL else 587)
except ValueError as error:
    raise ImproperlyConfigured(f"EMAIL_URL has a port that is none. {error}") from error
EMAIL_HOST_USER = unquote(_mail.username or "")
EMAIL_HOST_PASSWORD = unquote(_mail.password or "")
EMAIL_TIMEOUT = 10

# --- words, time, files ----------------------------------------------------------------------------------
LANGUAGE_CODE = "es"
LANGUAGES = [("es", _("Spanish")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = Path(env("STATIC_ROOT") or DATA_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "deployment.static.StaticStorage"
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

# --- API -------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "iam.access.authentication.BearerTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["iam.access.authentication.MayDo"],
    "DEFAULT_RENDERER_CLASSES": ["portal.renderers.FastJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["portal.filters.StrictFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "portal.pagination.KeysetPagination",
    "PAGE_SIZE": 100,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ClayTomSystems Holding",
    "DESCRIPTION": "The holding, its 35 subsidiaries and their agents: staffing, replacements, KPIs, ledger.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["iam.access.authentication.MayDo"],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    # Names that stay when another resource has a field of the same name.
    "ENUM_NAME_OVERRIDES": {
        "StateEnum": "subsidiaries.replacement.shown.SHOWN_STATES",
        "ApprovalStateEnum": "iam.authority.models.Approval.State",
        "DirectedMessageStateEnum": "bus.models.DirectedMessage.State",
        "EscalationStateEnum": "subsidiaries.escalations.models.Escalation.State",
        "KindEnum": "holding.models.Unit.Kind",
        "AccountKindEnum": "iam.access.models.User.Kind",
        "EmergencyStateEnum": "iam.access.models.EmergencyAccess.State",
        "ServiceKindEnum": "iam.access.serializers_accounts.ACCOUNT_KINDS",
        "VerdictEnum": "iam.authority.models.Decision.Verdict",
        "ReviewVerdictEnum": "iam.access.models.ReviewItem.Verdict",
        "InterestKindEnum": "iam.authority.models.Interest.Kind",
        "EnrolmentStateEnum": "subsidiaries.enrolment.models.Enrolment.State",
        "OfficeScopeEnum": "iam.authority.models.Office.Scope",
        "CommandStateEnum": "subsidiaries.commands.models.Command.State",
        "BlueprintVersionStateEnum": "holding.models.BlueprintVersion.State",
        "RolloutStateEnum": "subsidiaries.replacement.rollout_models.Rollout.State",
        "RolloutSeatStateEnum": "subsidiaries.replacement.rollout_models.RolloutSeat.State",
        "CommandScopeEnum": "subsidiaries.commands.models.Command.Scope",
        "QuarantineStateEnum": "bus.models.QuarantinedMessage.State",
        "QuarantineStageEnum": "bus.models.QuarantinedMessage.Stage",
        "AgentStageEnum": "holding.lifecycle.Stage",
        "IncidentKindEnum": "subsidiaries.replacement.models.Incident.Kind",
        "IncidentStepKindEnum": "subsidiaries.replacement.models.IncidentStep.Kind",
        "SeatStageEnum": "holding.lifecycle.SeatStage",
        "TargetStateEnum": "subsidiaries.commands.models.Target.State",
    },
}

# --- log -------------------------------------------------------------------------------------------------
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "nats": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}
