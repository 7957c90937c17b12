"""The console in a FastAPI application, behind the application's own dependencies."""

# FastAPI reads the annotations of endpoints as they stand here, so they are no strings.

from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import APIRouter, HTTPException, Request, Response, params
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from fluxgate import ConfigError
from fluxgate.console import Console, Entry
from fluxgate.console import Request as ConsoleRequest
from fluxgate.registry import Registry
from fluxgate_fastapi._registry import state_of

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet

_WHO: Final = "fluxgate_console_who"
"""The entry of a request's scope that holds the value of `control`."""
_REACHED: Final = "fluxgate_console_reached"
"""The entry of a request's scope that says that `read` has let it in."""
_METHODS: Final = ("GET", "HEAD", "POST")
_SOMEBODY: Final = "somebody"

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_Names = tuple[str | None, str | None]
"""Who reads, and who may control; None is nobody."""

_names: ContextVar[_Names] = ContextVar("fluxgate_console_names", default=(None, None))
"""Who makes the request that is being answered, as the application's dependencies said."""


def console(
    *,
    read: Any = None,
    control: Any = None,
    source: "Registry | Fleet | None" = None,
    local_only: bool = False,
    single_process: bool = False,
    critical: Collection[str] = (),
    secret: str | bytes | None = None,
    service: str | None = None,
    error_messages: bool = False,
    audited: Callable[[Entry], object] | None = None,
    **options: Any,
) -> APIRouter:
    """A router with the console: which circuits refuse calls, why, since when, and where.

        app.include_router(
            console(read=Depends(staff), control=Depends(on_call), secret=settings.secret),
            prefix="/circuits",
        )

    Whoever `read` lets in sees it; whoever `control` lets in, too, may act. They are dependencies
    like any other of the application: what they raise is its answer (a 401, a redirect to a login),
    and their value names who it is: a text, or an object with a `username` or `name`; True names
    nobody, and None or False lets nobody in. A dependency of `control` that raises makes the page
    one without controls.

    Args:
        read: `Depends(...)`, whom to let in.
        control: `Depends(...)`, whom to let act; None: nobody.
        source: whose circuits; by default those of the application's fleet, or else those of this
            process.
        local_only: whether to admit loopback alone, in place of `read` or beside it.
        single_process: whether this server has one process, so that controls make sense without a
            fleet, too.
        critical: circuits whose name must be typed before they are disabled.
        secret: signs the tokens of the page's forms; the same in all workers. Needed with
            `control`.
        service: the service's name, at the head of the page; by default the application's title.
        error_messages: whether the last errors are shown with their messages, which may hold data
            of users.
        audited: called with each attempt to use a control, once it is logged.
        options: what `APIRouter` takes. Nothing of it stands in the OpenAPI document: its JSON API
            has a schema of its own, `fluxgate/console/api-v1.schema.json`.

    Raises:
        ConfigError: nobody is let in, or anybody; or another argument can't be used.
    """
    if read is None and not local_only:
        raise ConfigError(
            "console(): read is missing: give Depends(...), whom to let in; or local_only=True"
        )
    for name, given in (("read", read), ("control", control)):
        if given is not None:
            _check(name, given)
    site = _Site(
        source,
        control,
        read=None if read is None else _reader,
        control=None if control is None else _controller,
        local_only=local_only,
        single_process=single_process,
        critical=critical,
        secret=secret,
        service=service,
        error_messages=error_messages,
        audited=audited,
    )
    options.setdefault("lifespan", site.lifespan)
    router = APIRouter(**options, route_class=site.route_class())
    who = params.Depends(_local) if read is None else read

    async def page(request: Request, reader: Any = who) -> Response:
        request.scope[_REACHED] = True
        return await site.answer(request, reader)

    router.add_api_route("/{path:path}", page, methods=list(_METHODS), include_in_schema=False)
    return router


def _check(name: str, given: Any) -> None:
    """Whether an argument is a dependency that can decide about anything."""
    if not isinstance(given, params.Depends):
        raise ConfigError(f"console({name}=...): must be Depends(...), not {given!r}")
    function = given.dependency
    if function is None:
        raise ConfigError(f"console({name}=Depends()): name the dependency: Depends(staff)")
    kind = type(function)
    if kind.__module__.partition(".")[0] == "fastapi":  # HTTPBasic, OAuth2PasswordBearer, ...
        raise ConfigError(
            f"console({name}=Depends({kind.__name__}(...))): that hands on what the client sent "
            "and checks none of it, so it would let everybody in: give a function that depends on "
            "it, checks, and raises HTTPException(401)"
        )


def _reader(_: ConsoleRequest) -> str | None:
    return _names.get()[0]


def _controller(_: ConsoleRequest) -> str | None:
    return _names.get()[1]


def _local() -> bool:
    """Somebody, who comes by loopback: the console itself sees to that."""
    return True


def _name_of(value: Any) -> str | None:
    """The name of whoever a dependency let in; None for nobody.

    Raises:
        ConfigError: its value names nobody in a way that is known.
    """
    if value is None or value is False:
        return None
    if value is True:
        return _SOMEBODY
    name, kind = value, type(value).__name__
    if isinstance(value, Mapping):
        named = cast("Mapping[str, Any]", value)
        name = named.get("username") or named.get("name")
    elif not isinstance(value, str):
        name = getattr(value, "username", None) or getattr(value, "name", None)
    if isinstance(name, str) and name.strip():
        return " ".join(name.split())
    raise ConfigError(
        f"console(): a dependency returned a {kind} without a username or name, so "
        "that the audit would not say who it was: return the name"
    )


class _Answer(Response):
    """The console's response to somebody, which it sends itself."""

    def __init__(self, site: "_Site", names: _Names) -> None:
        super().__init__()
        self._site = site
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._site.serve(scope, receive, send, self._names)
        if self.background is not None:
            await self.background()


class _Made:
    """A console of one application."""

    def __init__(self, console: Console, controller: _Handler) -> None:
        self.console = console
        self.asgi = console.asgi
        self.controller = controller


class _Site:
    """The consoles of one router: one for each application that it is included in."""

    def __init__(self, source: "Registry | Fleet | None", depends: Any, **options: Any) -> None:
        self._source = source
        self._options = options
        self._control = depends
        Console(source, **options).close()  # complain here

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[None]:
        """Begin the history with the application, and end it with that."""
        self._of(app)
        try:
            yield
        finally:
            state_of(app).consoles.pop(self).console.close()

    def _of(self, app: Any) -> "_Made":
        """The application's console; made here where nobody runs its lifespan."""
        # On the application, and not in a table of weak keys: what is made refers to that.
        consoles = state_of(app).consoles
        made: _Made | None = consoles.get(self)
        if made is None:
            options = dict(self._options)
            if options["service"] is None:
                options["service"] = getattr(app, "title", None)
            source = self._source
            if source is None:
                source = state_of(app).registry.fleet
            fresh = _Made(Console(source, **options), self._controller_of(app))
            first: _Made = consoles.setdefault(self, fresh)
            return first
        return made

    def route_class(self) -> type[APIRoute]:
        """Routes that audit whom a dependency has refused."""
        site = self

        class Audited(APIRoute):
            def get_route_handler(self) -> _Handler:
                handle = super().get_route_handler()

                async def audited(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except Exception:  # what an application says "no" with is its own choice
                        if request.method == "POST" and _REACHED not in request.scope:
                            await site.refuse(request, (None, None))
                        raise

                return audited

        return Audited

    async def answer(self, request: Request, reader: Any) -> Response:
        """The console's response to whoever `read` has let in."""
        name = _name_of(reader)
        who = None
        if name is not None and self._control is not None:
            try:
                who = await self._controls(request)
            except Exception as error:
                # Of a page: one without controls. The application's own errors are its business.
                if request.method == "POST" and not isinstance(error, HTTPException):
                    await self.refuse(request, (name, None))
                    raise
        return _Answer(self, (name, name if who == _SOMEBODY else who))

    async def _controls(self, request: Request) -> str | None:
        """Who it is that may control, by the dependency `control`."""
        await self._of(request.scope["app"]).controller(request)
        return _name_of(request.scope.pop(_WHO))

    def _controller_of(self, app: Any) -> _Handler:
        """A handler that notes the value of `control` in the request's scope.

        FastAPI solves the dependencies of an endpoint before that begins, and the first that raises
        ends all. So this is an endpoint of its own, which has that one alone.
        """
        depends = self._control

        async def note(request: Request, who: Any = depends) -> Response:
            request.scope[_WHO] = who
            return Response()

        return APIRoute("/", note, dependency_overrides_provider=app).get_route_handler()

    async def refuse(self, request: Request, names: _Names) -> None:
        """Have an attempt audited that the application itself answers."""
        await self.serve(request.scope, _nothing, _nowhere, names)

    async def serve(self, scope: Scope, receive: Receive, send: Send, names: _Names) -> None:
        """Let the console answer somebody, as if it were mounted where the router is."""
        path = scope["path_params"]["path"]
        root = _root(scope["path"], scope.get("root_path", ""), path)
        inner = {**scope, "root_path": root.rstrip("/"), "path": root + path}
        asgi = self._of(scope["app"]).asgi
        before = _names.set(names)
        try:
            await asgi(inner, receive, send)
        finally:
            _names.reset(before)


async def _nothing() -> Message:
    return {"type": "http.request"}


async def _nowhere(_: Message) -> None:
    pass


def _root(path: str, mount: str, below: str) -> str:
    """The path of the console as a browser sees it.

    A server or a mounted application leaves its own part in the path; a proxy that cuts it off, and
    names it (`root_path=`), doesn't.
    """
    mount = mount.rstrip("/")
    own = path[len(mount) :] if f"{path}/".startswith(f"{mount}/") else path
    return mount + own[: len(own) - len(below)]
