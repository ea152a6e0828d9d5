#!/usr/bin/env bash
# A Debian 13 root file system: the base of the image, and where the GPU tests run. As root, on Debian 12 or 13.
#
#   docker/root.sh build ROOT [LIST...]
#       a new root in the folder ROOT: apt and what it needs, and the packages that the lists name: one a line, `#` begins a comment
#   docker/root.sh unpack ROOT FOLDER LIST...
#       the files of packages, also of Debian's non-free component, in ROOT's FOLDER: not installed, so that no program finds them by itself
#   docker/root.sh enter ROOT PATH... -- COMMAND...
#       runs a command in ROOT, in the current folder; each PATH is there what it is outside
set -euo pipefail

readonly SUITE=trixie
# Debian 12's package of this name knows Debian 13's keys.
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

die() { printf 'root: %s\n' "$*" >&2; exit 1; }

packages_of() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' -- "$@"; }

# Where this machine's apt takes the archive with a label from; by the first one, if there are several.
mirror() {
  # shellcheck disable=SC2016 # apt fills these in
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$1 //p" | sort -u | head -n1
}

# Lines for apt, with the machine's own mirrors. A machine without Debian's security archive has a mirror that mixes it in, or wants none.
sources() {
  local components=$1 debian security
  # The labels stand in the lists: a machine that never had any knows its archives by address only.
  [[ -n $(mirror Debian) ]] || apt-get update -q >&2
  debian=$(mirror Debian)
  security=$(mirror Debian-Security)
  [[ -n $debian ]] || die "apt on this machine knows no Debian archive, so there is none to build a root from"
  printf 'deb %s %s\n' "$debian" "$SUITE $components" "$debian" "$SUITE-updates $components"
  [[ -z $security ]] || printf 'deb %s %s\n' "$security" "$SUITE-security $components"
}

build() {
  local root=$1 packages include=()
  shift
  if (($#)); then
    packages=$(packages_of "$@" | paste -sd,)
    include=(--include="$packages")
  fi
  # Without fsync: who interrupts this begins anew. Nobody reads manuals in there.
  sources main | mmdebstrap --variant=apt --mode=root --format=directory --keyring="$KEYRING" "${include[@]}" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    "$SUITE" "$root" -
}

unpack() {
  local root=$1 folder=$2 packages work
  shift 2
  mapfile -t packages < <(packages_of "$@")
  work=$(mktemp -d -p /tmp)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  sources 'main contrib non-free' >"$work/sources.list"
  # With lists of its own: the root goes on to know main only.
  mkdir -p "$root$folder" "$work/lists/partial"
  # shellcheck disable=SC2016 # the inner shell's
  "${BASH_SOURCE[0]}" enter "$root" -- sh -ec '
    work=$1 folder=$2
    shift 2
    cd "$work"
    apt() {
      apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" "$@"
    }
    apt update
    apt download "$@"
    for package in *.deb; do
      dpkg -x "$package" "$folder"
    done' unpack "$work" "$folder" "${packages[@]}"
}

# In a mount namespace of its own: whatever becomes of the command, nothing stays mounted.
enter() {
  [[ -x $1/bin/sh ]] || die "no root file system in $1"
  exec unshare --mount --propagation private -- "${BASH_SOURCE[0]}" inside "$@"
}

# The second half of `enter`, in the namespace.
inside() {
  local root=$1 here path
  here=$(pwd -P)
  shift
  while [[ $1 != -- ]]; do
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
    shift
  done
  shift
  for path in /proc /dev /sys /tmp; do
    mount --rbind "$path" "$root$path"
  done
  for path in /etc/hosts /etc/resolv.conf; do
    touch "$root$path"
    mount --bind "$path" "$root$path"
  done
  # shellcheck disable=SC2016 # the inner shell's
  exec env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" /bin/sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$here" "$@"
}

main() {
  local verb=${1:-}
  shift || true
  case $verb in
    build | unpack | enter | inside) "$verb" "$@" ;;
    *) die "usage: see the head of ${BASH_SOURCE[0]}" ;;
  esac
}

main "$@"
