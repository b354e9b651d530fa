#!/usr/bin/env bash
# The main job, shown: redis-server in partition b, redis-benchmark in partition a, over kernel TCP
# (a veth pair) and under Shunt, in turns; then a table, and the proof that the bytes of the second
# kind went through shared memory. `./run demo` builds and then calls this.
#
#   SHUNT_BUILD        build directory (default: build/release)
#   SHUNT_DEMO_ROUNDS  measurements for each cell of the table (default: 5)
#
# Without the privilege to make network namespaces it shows the one-partition form: loopback TCP
# against shared memory, no daemon. Exit status: 0 only if everything worked, the proof included, and
# GET with one connection reached the goal. Whatever happens, nothing is left behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/sbin:/sbin"

build=$(realpath -m "${SHUNT_BUILD:-build/release}")
readonly build shunt="$build/bin/shunt" shuntd="$build/bin/shuntd" table="$PWD/scripts/demo_table.py"
readonly rounds="${SHUNT_DEMO_ROUNDS:-5}"
readonly ns_a="shunt-demo-$$-a" ns_b="shunt-demo-$$-b" window="/dev/shm/shunt-demo-$$"
readonly goal=5
# Every measurement should take about this long; after the deadline nothing new is started.
readonly cell_ms=800 deadline_s=200 bench_limit_s=60

work=''          # private directory: logs, results
children=()      # pids to end, in the order of their start
namespaces=()    # to delete
in_a=() in_b=()  # prefixes that enter the partitions' namespaces
run_a=() run_b=()

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die() {
  printf 'demo: %s\n' "$*" >&2
  show_logs >&2
  exit 1
}

end_child() { # pid: asks it to end, and insists after 3 s
  local tries
  kill "$1" 2>/dev/null || return 0
  for ((tries = 0; tries < 30; ++tries)); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$1" 2>/dev/null || true
}

clean_up() {
  local status=$? i
  trap - EXIT
  trap '' INT TERM HUP
  set +e
  for ((i = ${#children[@]} - 1; i >= 0; --i)); do end_child "${children[i]}"; done
  if [[ -e $window ]]; then "$shunt" window destroy "$window" >/dev/null || status=1; fi
  for i in "${namespaces[@]}"; do ip netns delete "$i" || status=1; done
  [[ -z $work ]] || rm -rf "$work"
  exit "$status"
}

show_logs() {
  local log
  [[ -n $work ]] || return 0
  for log in "$work"/*.log; do
    [[ ! -s $log ]] || printf -- '--- end of %s\n%s\n' "${log##*/}" "$(tail -n 5 "$log")"
  done
}

# --- the stage ------------------------------------------------------------------------------------

have_namespaces() { # leaves the namespace of partition a behind when it can be made
  ip netns add "$ns_a" 2>/dev/null || return 1
  namespaces+=("$ns_a")
}

# An ordinary user may be root of a user namespace; that is privilege enough. The network namespaces
# then live in it, and in a private /run.
enter_user_namespace() {
  [[ -z ${SHUNT_DEMO_INSIDE:-} ]] || return 0
  local enter=(unshare --user --map-root-user --net --mount)
  local private_run='mount -t tmpfs none /run && exec "$@"'
  "${enter[@]}" sh -c "$private_run" sh ip netns add probe >/dev/null 2>&1 || return 0
  SHUNT_DEMO_INSIDE=1 exec "${enter[@]}" sh -c "$private_run" sh "$PWD/scripts/demo.sh"
}

make_partitions() {
  step 'two partitions: network namespaces a (10.77.0.1) and b (10.77.0.2), joined by a veth pair'
  ip netns add "$ns_b"
  namespaces+=("$ns_b")
  ip -n "$ns_a" link add veth0 type veth peer name veth0 netns "$ns_b"
  ip -n "$ns_a" address add 10.77.0.1/24 dev veth0
  ip -n "$ns_b" address add 10.77.0.2/24 dev veth0
  local ns
  for ns in "$ns_a" "$ns_b"; do
    ip -n "$ns" link set lo up
    ip -n "$ns" link set veth0 up
  done
  in_a=(ip netns exec "$ns_a")
  in_b=(ip netns exec "$ns_b")
  run_a=("$shunt" run --window "$window" --partition a --require --)
  run_b=("$shunt" run --window "$window" --partition b --)
  where='partition b' host=10.77.0.2 tcp_port=6379 shunt_port=6380
  "$shunt" window create "$window" --partition a=10.77.0.1 --partition b=10.77.0.2
  start_driver a "${in_a[@]}"
  start_driver b "${in_b[@]}"
}

make_one_partition() {
  step 'no privilege to make network namespaces: one partition instead, loopback TCP against Shunt, no daemon'
  run_a=("$shunt" run --require --)
  run_b=("$shunt" run --)
  where='one partition' host=127.0.0.1
  read -r tcp_port shunt_port < <(python3 "$table" free-ports 2)
}

start_driver() { # partition, prefix...
  local name=$1 ready line
  shift
  exec {ready}< <(exec "$@" "$shuntd" --window "$window" --partition "$name" --ready-fd 1 2>"$work/shuntd-$name.log")
  children+=("$!")
  read -r -t 20 line <&"$ready" || die "the driver of partition $name did not become ready"
  exec {ready}<&-
  say "driver of partition $name: $line"
}

start_redis() { # name, port, prefix...; sets redis_pid
  local log="$work/redis-$1.log" dir="$work/redis-$1" port=$2 tries
  mkdir "$dir"
  : >"$log"
  shift 2
  "$@" redis-server --port "$port" --bind "$host" --protected-mode no --save '' \
    --appendonly no --dir "$dir" >"$log" 2>&1 &
  redis_pid=$!
  children+=("$redis_pid")
  for ((tries = 0; tries < 100; ++tries)); do
    grep -q 'Ready to accept connections' "$log" && return 0
    kill -0 "$redis_pid" 2>/dev/null || break
    sleep 0.1
  done
  die 'redis-server does not start'
}

# --- measuring ------------------------------------------------------------------------------------

# One redis-benchmark; its rows go to $work/bench.csv. In the background, so that Ctrl-C is heard.
bench() { # tcp|shunt, clients, requests
  local prefix port pid
  case $1 in
    tcp) prefix=("${in_a[@]}") port=$tcp_port ;;
    shunt) prefix=("${in_a[@]}" "${run_a[@]}") port=$shunt_port ;;
  esac
  timeout -k 2 "$bench_limit_s" "${prefix[@]}" redis-benchmark -h "$host" -p "$port" -c "$2" -n "$3" \
    -t set,get --csv </dev/null >"$work/bench.csv" 2>"$work/redis-benchmark.log" &
  pid=$!
  children+=("$pid")
  wait "$pid" || die "redis-benchmark -c $2 ($1) failed, or took more than $bench_limit_s s"
  unset 'children[-1]'
}

veth_bytes() { # what the veth pair has carried so far, both ways
  ((${#in_a[@]})) || { echo 0; return; }
  local link=/sys/class/net/veth0/statistics
  "${in_a[@]}" cat $link/rx_bytes $link/tx_bytes | python3 -c 'import sys; print(sum(map(int, sys.stdin)))'
}

declare -A requests sent veth  # by tcp|shunt, requests by clients too
measure() { # round, tcp|shunt, clients; each round tells how many requests the next one sends
  local round=$1 kind=$2 clients=$3 before after
  local count=${requests[$kind$clients]:-2000}
  before=$(veth_bytes)
  bench "$kind" "$clients" "$count"
  after=$(veth_bytes)
  veth[$kind]=$((${veth[$kind]:-0} + after - before))
  sent[$kind]=$((${sent[$kind]:-0} + 2 * count))
  python3 "$table" add "$work/results" "$round" "$kind" "$clients" "$work/bench.csv"
  requests[$kind$clients]=$(python3 "$table" count "$work/bench.csv" "$cell_ms")
}

measure_all() {
  local round clients kind
  step "measuring: redis-benchmark with 1 and 50 connections, kernel TCP and Shunt in turns; rounds: $rounds"
  for ((round = 0; round <= rounds; ++round)); do
    for clients in 1 50; do
      for kind in tcp shunt; do
        ((SECONDS < deadline_s)) || die "not done after $deadline_s s; the machine is too slow or too busy"
        measure "$round" "$kind" "$clients"
      done
    done
  done
}

# --- the run --------------------------------------------------------------------------------------

main() {
  local tool
  for tool in ip python3 redis-server redis-benchmark; do
    command -v "$tool" >/dev/null || die "$tool is missing; ./run demo installs it"
  done
  [[ -x $shunt && -x $shuntd && -e $build/lib/libshunt.so ]] || die "nothing built in $build; ./run demo builds it"
  [[ $rounds =~ ^[1-9][0-9]?$ ]] || die "SHUNT_DEMO_ROUNDS: not a number from 1 to 99: '$rounds'"
  (($(nproc) >= 2)) || say 'warning: one CPU only: both programs share it, so the figures say little'

  if ! have_namespaces; then
    trap - EXIT
    enter_user_namespace
    trap clean_up EXIT
  fi
  work=$(mktemp -d "${TMPDIR:-/tmp}/shunt-demo-XXXXXX")
  if ((${#namespaces[@]})); then make_partitions; else make_one_partition; fi

  step "two redis-servers in $where"
  start_redis tcp "$tcp_port" "${in_b[@]}"
  say "without Shunt: pid $redis_pid, $host:$tcp_port"
  start_redis shunt "$shunt_port" "${in_b[@]}" "${run_b[@]}"
  say "under Shunt:   pid $redis_pid, $host:$shunt_port"

  measure_all
  "$shunt" status --json >"$work/status.json" || die 'shunt status failed'

  step "redis-benchmark, medians of the rounds (least to most)"
  python3 "$table" show "$work/results"
  step 'what carried the bytes'
  python3 "$table" prove "$work/status.json" "$redis_pid" "${sent[shunt]}" "${#in_a[@]}" \
    "${veth[tcp]}" "${veth[shunt]}" || die 'the proof fails'
  step 'result'
  python3 "$table" goal "$work/results" "$goal"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
main
