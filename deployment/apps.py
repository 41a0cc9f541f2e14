"""The Django app of the deployment."""

from django.apps import AppConfig


class DeploymentConfig(AppConfig):
    """Carries the commands that start and prepare an installation."""

    name = "deployment"
    label = "deployment"
    default_auto_field = "django.db.models.BigAutoField"
