#!/usr/bin/env bash
# Create the work pool, its queues and the automation, and register the deployments. May be run again after every
# change.
#
#   PREFECT_API_URL=http://127.0.0.1:4200/api PSEUDOWORD_SOURCE=s3://words/pictures deployments/setup.sh
#
# PSEUDOWORD_SOURCE is what the nightly batch trains: an s3:// prefix, a folder on the worker, or a table.
set -euo pipefail
: "${PREFECT_API_URL:?name the Prefect server, for example http://127.0.0.1:4200/api}"
: "${PSEUDOWORD_SOURCE:?name what the nightly batch trains, for example s3://words/pictures}"
export PREFECT_CLI_PROMPT=false
here=$(dirname "$0")

prefect work-pool create pseudoword --type process --overwrite
# A worker with a free place takes from the queue with the lowest number first: people before the batch.
# `create` refuses a queue that is there already.
for queue in interactive:1 batch:10; do
    prefect work-queue inspect "${queue%:*}" --pool pseudoword >/dev/null 2>&1 ||
        prefect work-queue create "${queue%:*}" --pool pseudoword --priority "${queue#*:}"
done
prefect deploy --all --prefect-file "$here/prefect.yaml"
prefect automation inspect pseudoword-dead-runs >/dev/null 2>&1 ||
    prefect automation create --from-file "$here/automations.yaml"
