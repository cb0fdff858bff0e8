"""The study's runs in MLflow: a record to browse, filled from the files.

The run folders are the source of truth and nothing in the project reads MLflow; a
database that is lost or damaged can be deleted and is filled again. Read in this order:
`records` (what the files say, without MLflow), `store` (where MLflow keeps it), `sync`
(the one brought in line with the other), `headline` (the best network as a model).

    python -m vitrail.tracking init --study default --results results
    python -m vitrail.tracking sync --study default --question q6_vit --out tracking.json
"""

import os

# MLflow reads these when it is imported, which only `store` and what follows it do. Its
# telemetry is off already (vitrail.outside).
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A server that went away is told after seconds, not after the default of several minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
