"""The REST API of access reviews, and of the decisions in each."""

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from iam.access.api_answers import NUMBER, NamedViewSet, caller, refusals
from iam.access.filters import ReviewFilter, ReviewItemFilter
from iam.access.models import AccessReview, ReviewItem
from iam.access.reviews import close_review, counted, decide_item, open_review, visible_to
from iam.access.serializers_reviews import (
    ReviewDecisionSerializer,
    ReviewItemSerializer,
    ReviewOpeningSerializer,
    ReviewSerializer,
)

ID = OpenApiParameter("id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the review.")
OF = OpenApiParameter("review", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the review.")
ITEM = OpenApiParameter(
    "id", OpenApiTypes.INT, OpenApiParameter.PATH, description="Number of the reviewed binding."
)
MISSING = gettext_lazy("There is no review %(key)s.")


@extend_schema_view(
    list=extend_schema(
        summary="List the access reviews",
        description="The newest first: one's own, and those of units where the caller may review.",
    ),
    retrieve=extend_schema(summary="Read an access review", parameters=[ID]),
)
class ReviewViewSet(ListModelMixin, RetrieveModelMixin, NamedViewSet[AccessReview]):
    """Access reviews: somebody who neither granted nor holds a binding says whether it stays."""

    permission = "reviews.conduct"
    queryset = AccessReview.objects.all()
    serializer_class = ReviewSerializer
    filterset_class = ReviewFilter
    lookup_value_regex = NUMBER
    missing = MISSING

    def get_queryset(self) -> QuerySet[AccessReview]:
        """Return the reviews in view."""
        return counted(visible_to(caller(self.request)))

    @extend_schema(
        summary="Open an access review",
        description="Of every binding in force there, but for those that the reviewer granted or holds.",
        request=ReviewOpeningSerializer,
        responses={201: ReviewSerializer},
    )
    def create(self, request: Request) -> Response:
        """Open a review. Raises PermissionDenied, ValidationError."""
        asked = ReviewOpeningSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            review = open_review(by=caller(request), **asked.validated_data)
        return Response(
            ReviewSerializer(self.get_queryset().get(pk=review.pk)).data, status=status.HTTP_201_CREATED
        )

    @extend_schema(
        summary="Close an access review",
        description="By its reviewer, when every binding is decided.",
        parameters=[ID],
        request=None,
        responses=ReviewSerializer,
    )
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        """Close a review. Raises PermissionDenied, ValidationError, Http404."""
        review = self.get_object()
        with refusals():
            close_review(by=caller(request), review=review)
        return Response(ReviewSerializer(self.get_object()).data)


@extend_schema_view(
    list=extend_schema(
        summary="List the bindings in an access review",
        description="The oldest first, each with what was said of it.",
        parameters=[OF],
    )
)
class ReviewItemViewSet(ListModelMixin, NamedViewSet[ReviewItem]):
    """The bindings in a review, and what was said of each."""

    permission = "reviews.conduct"
    queryset = ReviewItem.objects.all()
    serializer_class = ReviewItemSerializer
    filterset_class = ReviewItemFilter
    ordering = "id"
    lookup_value_regex = NUMBER
    missing = gettext_lazy("There is no binding %(key)s in the review.")

    def get_queryset(self) -> QuerySet[ReviewItem]:
        """Return the items of a review in view. Raises Http404."""
        number = self.kwargs["review"]
        review = visible_to(caller(self.request)).filter(pk=number).first()
        if review is None:
            raise Http404(str(MISSING) % {"key": number})
        return review.items.select_related("binding__user", "binding__role", "binding__unit", "binding__granted_by")

    @extend_schema(
        summary="Decide a binding in an access review",
        description="By its reviewer, once. `revoke` ends the binding at once.",
        parameters=[OF, ITEM],
        request=ReviewDecisionSerializer,
        responses=ReviewItemSerializer,
    )
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, review: str, pk: str) -> Response:
        """Keep or revoke. Raises PermissionDenied, ValidationError, Http404."""
        item = self.get_object()
        asked = ReviewDecisionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals():
            decide_item(by=caller(request), item=item, **asked.validated_data)
        return Response(ReviewItemSerializer(self.get_object()).data)
