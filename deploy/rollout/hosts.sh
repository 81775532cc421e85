#!/usr/bin/env bash
# Runs rollout.sh on the hosts with the tag cesta=GROUP, through AWS Systems Manager, and waits for all of them.
#
#   deploy/rollout/hosts.sh GROUP up IMAGES_FILE
#   deploy/rollout/hosts.sh GROUP back
#
# Needs aws, jq, and credentials that may send commands to these hosts and read their results. The checkout lies in
# HOST_FOLDER (/opt/cesta) on each. Exit code 1: a host failed, or no host has the tag; the output of each is printed.
set -euo pipefail

main() {
  local group=${1-} verb=${2-} file=${3-} folder=${HOST_FOLDER:-/opt/cesta} command id
  [[ $group =~ ^[A-Za-z0-9,-]+$ ]] || usage
  [[ $folder =~ ^/[A-Za-z0-9/._-]+$ ]] || { echo "HOST_FOLDER is \"$folder\": give an absolute path without blanks" >&2; exit 2; }
  case $verb in
    up)
      [ -r "$file" ] || { echo "IMAGES_FILE is \"$file\", which cannot be read" >&2; usage; }
      command="cd $folder && echo $(base64 --wrap=0 "$file") | base64 --decode > images.new.yml && sh deploy/rollout/rollout.sh up"
      ;;
    back) command="cd $folder && sh deploy/rollout/rollout.sh back" ;;
    *) usage ;;
  esac
  id=$(aws ssm send-command --document-name AWS-RunShellScript --targets "Key=tag:cesta,Values=$group" \
    --max-concurrency 1 --max-errors 0 --parameters "$(jq --null-input --arg command "$command" '{commands: [$command]}')" \
    --query Command.CommandId --output text)
  wait_for_end "$id"
}

wait_for_end() {  # Systems Manager has no event to wait for
  local status
  while status=$(aws ssm list-commands --command-id "$1" --query 'Commands[0].[Status,TargetCount]' --output text); do
    case $status in
      Pending* | InProgress* | Cancelling*) sleep "${POLL_S:-5}" ;;
      *) break ;;
    esac
  done
  aws ssm list-command-invocations --command-id "$1" --details \
    --query 'CommandInvocations[].[InstanceId,Status,CommandPlugins[0].Output]' --output text \
    || echo "the output of the hosts cannot be read" >&2
  [[ $status =~ ^Success[[:space:]]+[1-9] ]] || { echo "the hosts did not all succeed: $status (status, number of hosts)" >&2; exit 1; }
}

usage() {
  sed -n '4,5s/^# *//p' "$0" >&2
  exit 2
}

main "$@"
