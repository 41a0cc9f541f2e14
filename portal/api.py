"""The REST API of the holding as a whole; read only."""

from typing import Any, NoReturn

from django.http import JsonResponse
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bus.contract import asyncapi, schemas
from claytom_agent.messages import MESSAGE_TYPES
from iam.access.rules import CLEARED
from portal import figures
from portal.filters import refuse_unknown_parameters
from portal.serializers import OverviewSerializer

NOTHING = figures.Staffing()


class OverviewView(APIView):
    """Headcount against the floor, coverage, replacements and KPIs: the holding, then each unit."""

    permission = "units.view"

    @extend_schema(summary="Read the overview", responses=OverviewSerializer, tags=["overview"])
    def get(self, request: Request) -> Response:
        """Answer with the figures as of now."""
        refuse_unknown_parameters(request, ())
        now = timezone.now()
        staffing = figures.staffing(now=now)
        replaced = figures.replacements_since(now - figures.DAY)
        kpis = figures.recent_kpis(now=now)
        units = [
            _unit(row, staffing.get(row["id"], NOTHING), replaced.get(row["id"], 0), kpis.get(row["id"]))
            for row in figures.units_in_order()
        ]
        seats = sum(unit["seats"] for unit in units)
        return Response(
            {
                "live": sum(unit["live"] for unit in units),
                "seats": seats,
                "below_floor": sum(unit["below_floor"] for unit in units),
                "coverage": figures.share(sum(one.heard for one in staffing.values()), seats),
                "as_of": now,
                "units": units,
            }
        )


def _unit(
    row: dict[str, Any], staffing: figures.Staffing, replaced: int, kpis: dict[str, float] | None
) -> dict[str, Any]:
    return {
        "slug": row["slug"],
        "name": row["name_en" if (get_language() or "").startswith("en") else "name_es"],
        "kind": row["kind"],
        "seats": staffing.seats,
        "live": staffing.live,
        "floor": row["floor"],
        "below_floor": staffing.live < row["floor"] or staffing.quota_missed,
        "coverage": staffing.coverage,
        "replacements_24h": replaced,
        "kpis": kpis,
    }


class AsyncApiView(APIView):
    """The AsyncAPI document of the agent protocol."""

    schema = None
    permission = CLEARED

    def get(self, request: Request) -> JsonResponse:
        """Return the document."""
        return JsonResponse(asyncapi.document())


class MessageSchemaView(APIView):
    """The JSON Schema (2020-12) of one message of the agent protocol."""

    schema = None
    permission = CLEARED

    def get(self, request: Request, name: str) -> JsonResponse:
        """Return the schema; raise NotFound for a message that there is not."""
        if name not in MESSAGE_TYPES:
            raise NotFound(_("There is no message %(name)s; /api/asyncapi.json lists them.") % {"name": name[:100]})
        return JsonResponse(schemas.schema(name), content_type="application/schema+json")


class NotFoundView(APIView):
    """Whatever the API does not have: a clear 404 in JSON, to those who may call it."""

    schema = None
    permission = CLEARED

    def get(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotFound."""
        raise NotFound(_("There is nothing at %(path)s; see /api/schema/.") % {"path": request.path[:200]})

    post = put = patch = delete = get
