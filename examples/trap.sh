#!/bin/sh
# A script that reports to Night's Watch when it comes to its end, with how long it took. If anything in it fails it ends
# there, by `set -e`, and does not report. Its exit status is that of the work, whether or not Night's Watch answers.
set -eu

watcher=http://nights-watch-server/fbkvlsby
begin=$(date +%s)

report() {
    status=$?
    if [ "$status" -eq 0 ]; then
        curl -fsS --retry 5 --retry-all-errors -o /dev/null --get \
            --data-urlencode "comment=took $(($(date +%s) - begin)) s" "$watcher" || true
    fi
    exit "$status"
}
trap report EXIT

my-backup-script.sh
