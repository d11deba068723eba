"""`headwater up` as a process to be killed: the real command, with a model that is no model. Arguments: APP HOME [replay]

`replay`: the wall clock does not move the watermark, so that what the rules say hangs on the topics' contents alone.
"""

import sys
from functools import partial
from pathlib import Path

import headwater.flows.up_command as up_command
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.settings import load
from headwater.flows.up import Up
from headwater.lineage.errors import HeadwaterError

if __name__ == "__main__":
    up_command.Up = partial(Up, embedder=HashEmbedder(), idle="replay" not in sys.argv[3:])  # type: ignore[assignment,misc]
    try:
        up_command.run(load({"HEADWATER_HOME": sys.argv[2], "HEADWATER_HTTP__PORT": "0"}, dotenv=Path("/none")), sys.argv[1], http=True)
    except HeadwaterError as error:
        sys.exit(f"headwater: {error}")
