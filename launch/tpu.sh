#!/usr/bin/env bash
# Starts one study on every host of a TPU pod, or of a list of machines. --help tells how.
# shellcheck disable=SC2016,SC2317  # code for other shells; functions that only traps call
set -uo pipefail

help() {
  cat <<'TEXT'
usage: launch/tpu.sh [options] (--tpu=NAME --zone=ZONE | --machines=A,B,...) -- MODULE [options of the study]

Prints and runs `python -m MODULE --distributed ...` on every host; each trains its share of the runs, host 0 collects
them and writes the report. On every host the checkout must be there, at the same version, installed.

  --tpu=NAME           a TPU pod, through gcloud; there the hosts find each other by themselves
    --zone=ZONE          its zone
    --project=PROJECT    its project; default: gcloud's own
  --machines=A,B,...   machines, through ssh without a password: HOST or USER@HOST. The first is host 0, which all
                       others must reach. `localhost` is this one, without ssh
    --port=N             a free port of the first machine; default 8476
  --folder=DIR         the checkout on every host, from the home directory if relative; default jaxdl.
                       On localhost the default is this checkout
  --python=PATH        the interpreter on every host, from the checkout if relative; default .venv/bin/python
  --dry-run            print only

Ctrl-C and SIGTERM reach every host, where they save and stop; the second time nobody waits for that. The exit status
is 0 when it is on every host.

  launch/tpu.sh --tpu=pod --zone=us-central2-b -- experiments.greedy_pretraining --seeds=32
  launch/tpu.sh --machines=anna@one,anna@two -- experiments.greedy_pretraining --seeds=32
TEXT
}

mistake() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# The words as any POSIX shell reads them back. (bash's printf %q may give $'...', which others don't know.)
quote() {
  local word line=""
  for word in "$@"; do
    if [[ ! $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      word="'${word//\'/\'\\\'\'}'"
    fi
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

tpu="" zone="" project="" machines="" port=8476 folder="" python=.venv/bin/python dry="" ended=""
while (($#)); do
  case $1 in
    --help | -h) help && exit 0 ;;
    --dry-run) dry=yes ;;
    --tpu=*) tpu=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --machines=*) machines=${1#*=} ;;
    --port=*) port=${1#*=} ;;
    --folder=*) folder=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --) ended=yes && shift && break ;;
    *) mistake "unknown option '$1'; launch/tpu.sh --help lists them, the study's own come after --" ;;
  esac
  shift
done
[[ $ended && $# -gt 0 ]] || mistake "what to run is missing: end with -- experiments.NAME [options]"
[[ $1 =~ ^[A-Za-z_][A-Za-z0-9_.]*$ ]] || mistake "'$1' is no module: after -- comes one like experiments.NAME"
[[ $tpu || $machines ]] || mistake "no machines: give --tpu=NAME --zone=ZONE, or --machines=A,B,..."
[[ -z $tpu || -z $machines ]] || mistake "--tpu and --machines exclude each other"
[[ -z $tpu || $zone ]] || mistake "--tpu=$tpu needs --zone=ZONE"
[[ $tpu || -z $zone$project ]] || mistake "--zone and --project belong to --tpu"
[[ $port =~ ^[1-9][0-9]{0,4}$ && $port -le 65535 ]] || mistake "--port=$port is no port from 1 to 65535"
[[ $python ]] || mistake "--python= names no interpreter"

names=() codes=() # of each host: a machine, and the study's command there; a TPU pod counts as one here
if [[ $tpu ]]; then
  names=("$tpu")
  codes=("$(quote "$python" -m "$1" --distributed "${@:2}")")
else
  IFS=, read -ra names <<<"$machines"
  count=${#names[@]} remote=0
  for name in "${names[@]}"; do
    [[ $name =~ ^[A-Za-z0-9_@.][A-Za-z0-9_@.-]*$ ]] || mistake "--machines=$machines: '$name' is no name of a machine"
    [[ $name == localhost ]] || remote=1
  done
  ((count)) || mistake "--machines= names none"
  [[ ${names[0]} != localhost || $remote == 0 ]] ||
    mistake "the other machines can't reach 'localhost': let --machines begin with one that they can"
  for index in "${!names[@]}"; do
    meeting=(--distributed "--coordinator=${names[0]##*@}:$port" "--hosts=$count" "--host=$index")
    codes+=("$(quote "$python" -m "$1" "${meeting[@]}" "${@:2}")")
  done
fi

# Where a host notes its process, for `stop`: a signal to ssh would not reach what runs behind it.
note() { printf 'runs/.%s-%s.pid' "$port" "$1"; }

here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
place() { # INDEX: the checkout there
  if [[ -z $folder && ${names[$1]} == localhost && -z $tpu ]]; then quote "$here"; else quote "${folder:-jaxdl}"; fi
}

words=()
reach() { # INDEX CODE: sets `words` to the command that runs shell code on that host
  if [[ $tpu ]]; then
    words=(gcloud compute tpus tpu-vm ssh "$tpu" "--zone=$zone" ${project:+"--project=$project"} --worker=all)
    words+=("--command=$2")
  elif [[ ${names[$1]} == localhost ]]; then
    words=(bash -c "cd && $2")
  else
    words=(ssh -o BatchMode=yes "${names[$1]}" "$2")
  fi
}

start() { # INDEX: the code that starts the study; exec, so that the noted process is the study's
  printf 'cd %s && mkdir -p runs && echo $$ > %s && exec %s' "$(place "$1")" "$(note "$1")" "${codes[$1]}"
}

stop() { # SIGNAL INDEX: the code that stops it, unless the note is of an earlier launch
  printf 'cd %s && pid=$(cat %s) && ps -o args= -p $pid | grep -q -e --distributed && kill -%s $pid' \
    "$(place "$2")" "$(note "$2")" "$1"
}

for index in "${!names[@]}"; do
  reach "$index" "$(start "$index")"
  quote "${words[@]}"
  echo
done
[[ -z $dry ]] || exit 0
for index in "${!names[@]}"; do
  reach "$index" ""
  type -P "${words[0]}" >/dev/null || mistake "${words[0]} is not installed, and reaches ${names[$index]}"
done

prefixed() { # INDEX: every line with its host before it, to the very end
  local line
  while IFS= read -r line || [[ $line ]]; do
    if [[ $tpu ]]; then printf '%s\n' "$line"; else printf '[%s %s] %s\n' "$1" "${names[$1]}" "$line"; fi
  done
}

asked=0
forward() { # SIGNAL
  asked=$((asked + 1))
  local index
  for index in "${!names[@]}"; do
    if ((asked > 1)); then
      kill -KILL -- "-${jobs[$index]}" 2>/dev/null
    else
      reach "$index" "$(stop "$1" "$index")"
      "${words[@]}" </dev/null >/dev/null 2>&1 &
    fi
  done
}

# Job control gives every host a process group of its own: a Ctrl-C on the terminal comes here alone, and output is
# read to its end.
set -m
jobs=()
trap 'forward INT' INT
trap 'forward TERM' TERM
for index in "${!names[@]}"; do
  reach "$index" "$(start "$index")"
  "${words[@]}" </dev/null 2>&1 | prefixed "$index" &
  jobs+=($!)
done

status=0
for index in "${!names[@]}"; do
  while true; do # a trapped signal ends `wait` early
    before=$asked
    wait "${jobs[$index]}"
    code=$?
    ((asked == before)) && break
  done
  if ((code)); then
    echo "host $index (${names[$index]}) ended with status $code" >&2
    status=$((status ? status : code))
  fi
done
exit "$status"
