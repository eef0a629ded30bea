"""A pytest plugin under which `import httpx` is `import httpx2`: `-p tests.alias_httpx`.

It has to be imported before anything imports httpx, so it stands in no package that does.
"""

import httpx2

httpx2.alias_httpx()
