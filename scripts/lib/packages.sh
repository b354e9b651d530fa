# shellcheck shell=bash
# Which Debian packages each task needs, and their installation. Sourced by ./run.

# shellcheck disable=SC2034 # the arrays are used by ./run
packages_build=(g++ cmake ninja-build libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev
  libtomlplusplus-dev systemtap-sdt-dev)
packages_test_build=(libgtest-dev libbenchmark-dev relacy-dev python3)
packages_programs=(iproute2 redis-server redis-tools iperf3 curl python3 socat netcat-openbsd gdb strace)
packages_demo=(iproute2 redis-server redis-tools python3)
# For guests with an operating system of their own. Their kernel is fetched, never installed
# (tests/vm/vm/kernel.py). kmod: depmod; g++ links the guests' programs statically with libc6-dev.
packages_vm=(qemu-system-x86 busybox-static ndctl kmod iproute2 python3)
packages_demo_vm=("${packages_vm[@]}" redis-server redis-tools iperf3)
packages_bench=(python3)  # and strace, without which the bench has some rows less
packages_fuzz=(clang libclang-rt-dev llvm python3)  # llvm: its symbolizer puts names into reports
packages_lint=(clang-format clang-tidy git python3)

missing_packages() { # package... -> those not installed, one a line
  local package
  for package in $(printf '%s\n' "$@" | sort -u); do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

have_packages() { [[ -z $(missing_packages "$@") ]]; }

# apt-get as root, without questions, and without starting the services of what is installed: a
# policy-rc.d that says "no" stands in for the machine's own while apt runs.
install_script='
set -eu
policy=/usr/sbin/policy-rc.d
kept=
restore() { if [ -n "$kept" ]; then mv -f "$kept" "$policy"; else rm -f "$policy"; fi; }
if [ -e "$policy" ] || [ -L "$policy" ]; then kept="$policy.before-shunt"; mv -f "$policy" "$kept"; fi
trap restore EXIT
trap "exit 130" INT TERM HUP
printf "#!/bin/sh\nexit 101\n" >"$policy"
chmod 755 "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" </dev/null
for package in "$@"; do
  if [ "$package" = redis-server ] && command -v systemctl >/dev/null; then
    systemctl disable --quiet redis-server.service 2>/dev/null || true
  fi
done
'

ensure_packages() { # package...
  local missing as_root=()
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    die "this is not a Debian machine (no apt-get). Install the equivalents of: $*"
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "missing Debian packages, and neither root nor sudo to install them. As root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "install from Debian: ${missing[*]}"
  "${as_root[@]}" /bin/sh -c "$install_script" install "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}"
}
