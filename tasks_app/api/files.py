"""REST of files: store raw bytes under a name, list, read back, delete. Each user has names of his own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.permissions import allow
from accounts_app.rest.negotiation import AnyAccepted
from accounts_app.rest.problems import Problem, bad_field
from accounts_app.roles import Role, is_operator
from dispatcher.ports import BlobRefused, BlobTooLarge, NoRoomForBlob
from octaskly_wire.file_names import objection_to_name
from tasks_app import file_selectors, file_services
from tasks_app.api.downloads import DOWNLOAD_HEADERS, attachment, downloads
from tasks_app.api.filters import FileFilter
from tasks_app.api.representation import FileSerializer
from tasks_app.api.uploads import announced_size, body_of
from tasks_app.asked_files import DIGEST_PREFIX, is_digest
from tasks_app.blob_store import store
from tasks_app.models import Blob, File

FileUsers = allow(Role.ADMIN, Role.DISPATCHER, Role.CLIENT)
RETRY_AFTER_S = 10
RAW = "application/octet-stream"
NO_UTF_8 = "\N{REPLACEMENT CHARACTER}"
"""What the web server makes of bytes in an address that are no UTF-8: two such names would be one."""
NAME = OpenApiParameter(
    "name", str, OpenApiParameter.PATH, description="relative, may have slashes; or `sha256:<hex>` for a bare upload"
)


def owner_asked(request: Any) -> Any:
    """Return whose files are asked for: the user's, or with ?owner= an operator may name another; None is nobody."""
    name = request.query_params.get("owner")
    if name is None or name == request.user.get_username():
        return request.user
    return get_user_model().objects.filter(username=name).first() if is_operator(request.user) else None


class FileListView(ListAPIView[File]):
    """The user's files by name. Bare uploads are shown with ?uploads=1 only, and then nothing else is."""

    permission_classes = (FileUsers,)
    serializer_class = FileSerializer
    filterset_class = FileFilter
    ordering = "name"
    ordering_fields = ("name", "created_at")
    other_parameters = ("owner",)

    def get_queryset(self) -> QuerySet[File]:
        """Return them."""
        if getattr(self, "swagger_fake_view", False):
            return File.objects.none()
        return file_selectors.files_of(owner_asked(self.request))

    @extend_schema(
        parameters=[OpenApiParameter("owner", str, description="whose files; for admin and dispatcher")],
    )
    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """List files."""
        return super().get(request, *args, **kwargs)


class FileView(APIView):
    """One file: its raw bytes."""

    permission_classes = (FileUsers,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AnyAccepted

    @extend_schema(
        parameters=[
            NAME,
            OpenApiParameter("owner", str, description="whose file; for admin and dispatcher"),
            *DOWNLOAD_HEADERS,
        ],
        responses=downloads(RAW),
    )
    def get(self, request: Any, name: str) -> HttpResponseBase:
        """Return the bytes; ETag is the SHA-256. `sha256:<hex>` finds every content that the user may name."""
        check_name(name)
        blob = _content(owner_asked(request), name)
        if blob is None:
            raise missing_file(name)
        try:
            content = store().open(blob.sha256)
        except FileNotFoundError:
            raise missing_file(name) from None
        return attachment(request, content, blob.size_bytes, blob.sha256, name)

    @extend_schema(
        parameters=[NAME],
        request={RAW: OpenApiTypes.BINARY},
        responses={201: FileSerializer, 200: FileSerializer},
    )
    def put(self, request: Any, name: str) -> Response:
        """Store the body, whatever it is, under this name; 201 when the name is new, 200 when it stood for another."""
        check_name(name)
        with refusals_as_problems():
            file, is_new = file_services.upload(request.user, name, body_of(request), announced_size(request))
        return Response(FileSerializer(file).data, status=201 if is_new else 200)

    @extend_schema(parameters=[NAME], responses={204: None})
    def delete(self, request: Any, name: str) -> Response:
        """Delete the file. Tasks that name it as an input keep it."""
        check_name(name)
        file = file_selectors.files_of(request.user).filter(name=name).first()
        if file is None:
            raise missing_file(name)
        file_services.delete(file, request.user)
        return Response(status=204)


def check_name(name: str) -> None:
    """Raise the problem of a name that no file may have."""
    if name.startswith(DIGEST_PREFIX):
        if not is_digest(name.removeprefix(DIGEST_PREFIX)):
            raise bad_field("name", f"after {DIGEST_PREFIX} must come 64 hexadecimal digits in lower case")
    elif NO_UTF_8 in name:
        raise bad_field("name", "must be UTF-8")
    elif objection := objection_to_name(name):
        raise bad_field("name", objection)


def missing_file(name: str) -> Problem:
    """Return the problem of a file that is not there."""
    return Problem(404, detail=f"there is no file {name!r}")


@contextmanager
def refusals_as_problems() -> Iterator[None]:
    """Answer what does not let a content be stored."""
    try:
        yield
    except (BlobTooLarge, file_services.QuotaExceeded) as error:
        raise Problem(413, detail=str(error), errors=[{"field": "size", "message": str(error)}]) from error
    except NoRoomForBlob as error:
        detail = f"{error}; nothing was stored"
        raise Problem(503, detail=detail, headers={"Retry-After": str(RETRY_AFTER_S)}) from error
    except BlobRefused as error:
        raise Problem(400, detail=str(error), errors=[{"field": "", "message": str(error)}]) from error


def _content(owner: Any, name: str) -> Blob | None:
    if name.startswith(DIGEST_PREFIX):
        return file_selectors.nameable_content(owner, name.removeprefix(DIGEST_PREFIX))
    file = file_selectors.files_of(owner).filter(name=name).first()
    return file.blob if file else None
