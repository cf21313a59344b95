"""Settings: defaults, then ``lamina.toml`` (working directory, then the user's), then ``LAMINA_*`` variables.

``lamina doctor`` prints the resolved values. Keys never appear in their representation.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


def _home() -> Path:
    return Path(platformdirs.user_data_dir("lamina", appauthor=False))


def toml_files() -> list[Path]:
    """Where settings are read from; a file later in the list wins."""
    return [Path(platformdirs.user_config_dir("lamina", appauthor=False)) / "lamina.toml", Path("lamina.toml")]


class Settings(BaseSettings):
    """Everything that can be configured without code. ``LAMINA_DATABASE=/srv/m.db`` sets ``database``."""

    model_config = SettingsConfigDict(env_prefix="LAMINA_", extra="ignore")

    home: Path = Field(default_factory=_home, description="folder of the default database")
    database: str | None = Field(
        default=None, description="database file, or postgresql://...; default: memory.db in home"
    )
    tenant: str = Field(default="default", description="tenant whose memories are used")
    user: str = Field(default="me", description="the user the command line speaks for")
    embedder: str = Field(default="minilm", description="what turns text into vectors")
    pipeline: str | None = Field(
        default=None, description="how memory works; default: hybrid, with a model mem0-additive"
    )
    custom_instructions: str | None = Field(default=None, description="what a model is to note or leave out")
    reranker: str = Field(default="none", description="a second look at results: none, llm or cross-encoder:MODEL")
    llm: str = Field(default="local:smollm2", description="the chat model, local:NAME or openai:NAME")
    llm_base_url: str | None = Field(default=None, description="an OpenAI-compatible endpoint")
    llm_api_key: SecretStr | None = Field(default=None, description="its key; OPENAI_API_KEY works too")
    model_requests: int = Field(
        default=32, ge=1, description="requests of a serving process that may wait for models at once"
    )
    durable: bool = Field(default=True, description="fsync every write (SQLite synchronous=FULL)")

    @property
    def database_path(self) -> Path | str:
        """The file, or the address of a server as it was given."""
        if self.database and self.database.startswith(("postgresql://", "postgres://")):
            return self.database
        return Path(self.database).expanduser() if self.database else self.home / "memory.db"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_files())
