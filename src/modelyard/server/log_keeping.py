"""The loop that keeps this server's prediction logs: segments become Parquet, what is too old goes."""

import asyncio
import json
import logging
import sys

from modelyard.deliver.deployments import measuring, places, records
from modelyard.deliver.deployments.records import Endpoint
from modelyard.domain.errors import ModelyardError
from modelyard.domain.sections import seconds
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.server.yard import Yard

EVERY_S = 600.0
PATIENCE_S = 600.0
logger = logging.getLogger("modelyard.predictions")


async def keep(yard: Yard, every_s: float = EVERY_S) -> None:
    """Until cancelled. Each server keeps the logs in its own home, so this needs no lease."""
    while True:
        await asyncio.sleep(every_s)
        try:
            for endpoint in await yard.store.read(lambda conn: records.find_endpoints(conn, None)):
                await look(yard, endpoint)
        except ModelyardError as error:
            logger.warning("keeping prediction logs: %s", error)
        except Exception:  # a loop of last resort: a store that is away now may be there at the next look
            logger.exception("keeping prediction logs failed; it is tried again")


async def look(yard: Yard, endpoint: Endpoint) -> None:
    """Keep one endpoint's log; what goes is told by an event."""
    environment, name = endpoint.environment, endpoint.name
    served = endpoint.live or endpoint.previous
    folder = places.predictions(yard.home, environment, name)
    if served is None or not folder.exists():
        return
    digest = (await yard.store.read(lambda conn: records.get(conn, served))).digest
    declared = yard.project.models.get(endpoint.model)
    kept = declared.serving.log.keep if declared is not None else None
    before = now_ms() - int(seconds(kept) * 1000) if kept else 0
    command = [sys.executable, "-m", "modelyard.deliver.deployments.log_keeping", str(folder)]
    command += [str(places.models(yard.home, environment) / digest / "MLmodel"), str(before)]
    try:
        done = json.loads(await measuring.run_helper(command, PATIENCE_S))
    except measuring.Unmeasured as error:
        logger.warning("the prediction log of %s/%s is not kept: %s", environment, name, error)
        return
    if done["forgotten"] or done["labels"]:
        went = {"forgotten": done["forgotten"], "labels": done["labels"]}
        data = {"environment": environment, "model": endpoint.model, "before": before, **went}
        await yard.store.write(
            lambda conn: log.append(conn, "predictions.forgotten", endpoint.subject, "modelyard", data)
        )
