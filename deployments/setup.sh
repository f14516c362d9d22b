#!/usr/bin/env bash
# Create the work pool and its queues, and register both deployments. May be run again after every change.
#
#   PREFECT_API_URL=http://127.0.0.1:4200/api PSEUDOWORD_SOURCE=s3://words/pictures deployments/setup.sh
#
# PSEUDOWORD_SOURCE is what the nightly batch trains: an s3:// prefix, a folder on the worker, or a table.
set -euo pipefail
: "${PREFECT_API_URL:?name the Prefect server, for example http://127.0.0.1:4200/api}"
: "${PSEUDOWORD_SOURCE:?name what the nightly batch trains, for example s3://words/pictures}"
export PREFECT_CLI_PROMPT=false

prefect work-pool create pseudoword --type process --overwrite
# A worker with a free place takes from the queue with the lowest number first: people before the batch.
# `create` refuses a queue that is there already.
for queue in interactive:1 batch:10; do
    prefect work-queue inspect "${queue%:*}" --pool pseudoword >/dev/null 2>&1 ||
        prefect work-queue create "${queue%:*}" --pool pseudoword --priority "${queue#*:}"
done
prefect deploy --all --prefect-file "$(dirname "$0")/prefect.yaml"
