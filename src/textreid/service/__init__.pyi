from .app import create_app as create_app
from .client import AsyncClient as AsyncClient, Client as Client, ServiceError as ServiceError
from .engine import Engine as Engine
from .server import serve as serve
from .settings import Settings as Settings
