"""Fields in which the API's callers name accounts, roles and units; and the unit as it is told."""

from collections.abc import Collection
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from holding.models import Unit
from iam.access.models import AccessRole, User


class NameField(serializers.CharField):
    """A row by its name: given as text, validated to the row. Raises ValidationError for a name of nothing."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Return the row, or what stands for no name."""
        name = super().run_validation(data)
        if not isinstance(name, str):
            return name
        found = self.find(name)
        if found is None:
            raise serializers.ValidationError(_("There is no “%(name)s”.") % {"name": name[:40]})
        return found

    def find(self, name: str) -> Model | None:
        """Return the row of that name, or None."""
        raise NotImplementedError


@extend_schema_field(OpenApiTypes.STR)
class AccountField(NameField):
    """An account by its username, whoever may see it; of the kinds given, or of any."""

    def __init__(self, kinds: Collection[str] = tuple(User.Kind), **options: Any) -> None:
        super().__init__(**options)
        self.kinds = kinds

    def find(self, name: str) -> User | None:
        """Return the account."""
        return User.objects.filter(username=name, kind__in=self.kinds).first()


@extend_schema_field(OpenApiTypes.STR)
class RoleField(NameField):
    """A role of access by its slug."""

    def find(self, name: str) -> AccessRole | None:
        """Return the role."""
        return AccessRole.objects.filter(slug=name).first()


class UnitField(NameField):
    """A unit, of those in view now, by its slug; null for the whole holding."""

    def __init__(self, **options: Any) -> None:
        texts = {"help_text": "Slug of the unit; null for the whole holding."}
        super().__init__(**{"required": False, "allow_null": True, "default": None, **texts, **options})

    def find(self, name: str) -> Unit | None:
        """Return the unit."""
        return Unit.objects.filter(slug=name).first()


class PlaceField(serializers.CharField):
    """The slug of the unit that something is for, as it is told; null for the whole holding."""

    def __init__(self, **options: Any) -> None:
        texts = {"help_text": "Slug of the unit; null for the whole holding."}
        super().__init__(**{"source": "unit.slug", "allow_null": True, "default": None, **texts, **options})
