"""What Django's own tests of its cache want to know: both memcached backends, of the server in SIDESTEP_SERVER."""

import os

CACHES = {
    name: {"BACKEND": f"django.core.cache.backends.memcached.{name}", "LOCATION": os.environ["SIDESTEP_SERVER"]}
    for name in ("PyMemcacheCache", "PyLibMCCache")
}
CACHES["default"] = CACHES["PyMemcacheCache"]
DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
SECRET_KEY = "for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
