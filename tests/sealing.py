"""The secret of the tests' own processes and apps."""

from __future__ import annotations

import secrets

from service.domain.server_secret import secrets_of
from service.seals import Seals

SECRET = secrets.token_hex(32)
SEALS = Seals(secrets_of(SECRET))
