#!/bin/sh
# Keeps one command, mostly a server, for the process that started it, and removes every trace of both.
#
#   supervisor.sh FOLDER SEED COMMAND [ARGUMENT...]
#
# FOLDER is made here, filled from the folder SEED ("" for none) and from $SUPERVISOR_CONFIG, and removed
# at the end. The end comes when the command exits, or when standard input closes: the parent's death,
# even by SIGKILL, closes it. $SUPERVISOR_FINALLY is run last.
folder=$1
seed=$2
shift 2

trap '' INT HUP TERM
umask 077

log=$(
  mkdir "$folder" 2>&1 &&
    printf '%s' "$SUPERVISOR_CONFIG" 2>&1 >"$folder/config" &&
    { [ -z "$seed" ] || cp -R "$seed" "$folder/data" 2>&1; }
)
if [ $? -ne 0 ]; then
  rm -rf "$folder"
  printf '%s\n' "$log" >&2
  exit 1
fi

# A background job's own standard input is /dev/null: the parent's pipe stays at hand as 3.
exec 3<&0
"$@" </dev/null >"$folder/log" 2>&1 3<&- &
server=$!

{
  read -r _ <&3
  # The data is thrown away, so there is nothing that a gentle shutdown would save.
  kill -KILL "$server"
} 2>/dev/null &
watcher=$!

wait "$server" 2>/dev/null
# A server that ended by itself leaves the watcher, which would later kill the process that has its number then.
kill -KILL "$watcher" 2>/dev/null
log=$(tail -n 20 "$folder/log" 2>/dev/null)
# A child of the command may still have been writing.
rm -rf "$folder" 2>/dev/null || { sleep 1; rm -rf "$folder"; }
[ -z "$SUPERVISOR_FINALLY" ] || sh -c "$SUPERVISOR_FINALLY"
printf '%s\n' "$log" >&2
