#!/usr/bin/env bash
# Create the work pool, its queues and the automations, and register the deployments. May be run again after every
# change.
#
#   PREFECT_API_URL=http://127.0.0.1:4200/api PSEUDOWORD_SOURCE=s3://words/pictures deployments/setup.sh
#
# PSEUDOWORD_SOURCE is what the nightly batch trains: an s3:// prefix, a folder on the worker, or a table.
# PSEUDOWORD_ALERTS, if set, is the notification block of the Prefect server that hears of failed runs and of rejected
# and undecided words, for example slack-webhook/words.
set -euo pipefail
: "${PREFECT_API_URL:?name the Prefect server, for example http://127.0.0.1:4200/api}"
: "${PSEUDOWORD_SOURCE:?name what the nightly batch trains, for example s3://words/pictures}"
export PREFECT_CLI_PROMPT=false
here=$(dirname "$0")

prefect work-pool create pseudoword --type process --overwrite
# A worker with a free place takes from the queue with the lowest number first: people before the batch. What only
# coordinates has a queue of its own, which a worker without a card serves.
# `create` refuses a queue that is there already.
for queue in cpu:1 gpu-interactive:2 gpu-batch:10; do
    prefect work-queue inspect "${queue%:*}" --pool pseudoword >/dev/null 2>&1 ||
        prefect work-queue create "${queue%:*}" --pool pseudoword --priority "${queue#*:}"
done
prefect deploy --all --prefect-file "$here/prefect.yaml"

automations=$(cat "$here/automations.yaml")
for name in $(sed -n 's/^  - name: //p' <<<"$automations"); do
    prefect automation delete "$name" >/dev/null 2>&1 || true
done
if [ -n "${PSEUDOWORD_ALERTS:-}" ]; then
    block=$(prefect block inspect "$PSEUDOWORD_ALERTS" --output json | sed -n 's/^  "id": "\(.*\)",*$/\1/p')
    : "${block:?there is no block $PSEUDOWORD_ALERTS: make it in the UI under Blocks}"
    automations=${automations//00000000-0000-0000-0000-000000000000/$block}
else
    automations=${automations%%  # --- alerts*}
fi
made=$(mktemp --suffix .yaml)
trap 'rm -f "$made"' EXIT
printf '%s\n' "$automations" >"$made"
prefect automation create --from-file "$made"
