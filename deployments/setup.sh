#!/usr/bin/env bash
# Create the work pool, its queues and the automations, and register the deployments, where the servers were not started
# by `ti up`, which does the same. May be run again after every change.
#
#   PREFECT_API_URL=http://127.0.0.1:4200/api PSEUDOWORD_SOURCE=s3://words/pictures deployments/setup.sh
#
# PSEUDOWORD_SOURCE is what the nightly batch trains: an s3:// prefix, a folder on the worker, or a table.
# PSEUDOWORD_ALERTS, if set, is the notification block of the Prefect server that hears of failed runs and of rejected
# and undecided words, for example slack-webhook/words.
set -euo pipefail
exec python -m flows.serving.deploying
