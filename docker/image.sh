#!/usr/bin/env bash
# The container image without a container engine, and the checks that it must pass. As root, on Debian 12 or 13 with mmdebstrap and buildah.
#
#   docker/image.sh BINARIES WORK [BUILDAH ARGUMENT...]
#       BINARIES: a folder with weir and weir-codec; WORK: a folder for the images; the image is WORK/weir.tar and, in buildah's store there, `weir`
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
binaries=$1 work=$2
shift 2

# With NVRTC: what pulling it costs a new node. Its layers are compressed further on the way.
readonly MAX_MB=450

# vfs needs no file system of a special kind, chroot no privileges that a CI machine's sandbox keeps back.
readonly STORE=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
readonly ISOLATION=(--isolation chroot)

die() { printf 'image: %s\n' "$*" >&2; exit 1; }

container=''
clean_up() {
  [[ -z $container ]] || buildah "${STORE[@]}" rm "$container" >/dev/null
  rm -rf "$work/base" "$work/base.tar" "$work/context" "$work/data"
}

# In place of `debian:trixie-slim`: Debian's own archive is at hand everywhere, an image registry is not. Anew each time, with today's security updates.
base() {
  local scratch
  "$here/root.sh" build "$work/base"
  tar -C "$work/base" -cf "$work/base.tar" .
  scratch=$(buildah "${STORE[@]}" from scratch)
  buildah "${STORE[@]}" add -q "$scratch" "$work/base.tar" / >/dev/null
  buildah "${STORE[@]}" commit -q "$scratch" weir-base >/dev/null
  buildah "${STORE[@]}" rm "$scratch" >/dev/null
}

image() {
  mkdir -p "$work/context/docker" "$work/context/bin"
  cp "$here"/{packages.txt,plugins.txt,slim.sh} "$work/context/docker/"
  cp "$here"/../LICENSE* "$work/context/"
  cp "$binaries/weir" "$binaries/weir-codec" "$work/context/bin/"
  buildah "${STORE[@]}" bud -q "${ISOLATION[@]}" --build-arg BASE=localhost/weir-base --build-arg BINARIES=bin "$@" \
    -f "$here/Dockerfile" -t weir "$work/context"
}

# A command as a container engine would start it: as the image's user, with its environment.
run() { buildah "${STORE[@]}" run "${ISOLATION[@]}" "$@"; }

check_files() {
  local root=$1 found
  # The driver's libraries are the host's, the double's the tests'; compilers and keys have no place on a node.
  found=$(find "$root" -xdev \( -name 'libcuda.so*' -o -name 'libnvcuvid.so*' -o -name 'libnvidia-*' -o -name '*nvdouble*' -o -name '*.h' \
    -o -path '*/bin/*gcc*' -o -path '*/bin/*g++*' -o -path '*/bin/cc' -o -path '*/bin/make' -o -path '*/bin/cargo' \
    -o -name 'keys.toml' -o -name 'id_*' -o -path '*/.aws/*' \) ! -name id_ID)
  [[ -z $found ]] || die "this has no place in an image: $found"
  found=$(grep -rlI -e '-----BEGIN .*PRIVATE KEY-----' "$root"/{etc,home,root,data,usr/local} 2>/dev/null) || true
  [[ -z $found ]] || die "a private key: $found"
  if grep -rqa -e nvdouble_set "$root/usr/local/bin" "$root/usr/lib"; then
    die "the driver double is in the image"
  fi
}

check_upgrades() {
  local root=$1 upgrades
  upgrades=$("$here/root.sh" enter "$root" -- sh -c 'apt-get update -q >&2; apt list --upgradable 2>/dev/null' | grep -e -security || true)
  [[ -z $upgrades ]] || die "security upgrades are pending: $upgrades"
}

# The compiler for GPUs under the name that GStreamer is told, and no element missing.
check_probe() {
  local said
  said=$(run "$container" -- weir probe)
  printf '%s\n' "$said"
  grep -q 'libnvrtc.so.12 *loaded' <<<"$said" || die "NVRTC is not found"
  if grep -q 'missing: apt-get' <<<"$said"; then
    die "elements are missing"
  fi
  grep -q '^encoder: software' <<<"$said" || die "no encoder"
}

# The built-in test picture for 6 s, on a loopback of its own, to the end of its playlists.
check_stream() {
  local live=$work/data/store/live/local/demo list
  # Not at /data: the image's own volume would lie over it.
  install -d -o 10001 -g 10001 "$work/data"
  # shellcheck disable=SC2016 # the inner shells'
  unshare --net -- bash -euc '
    ip link set lo up
    buildah "$@" -- sh -euc "
      weir run --open=anywhere --set reconnect_grace=1 --store folder:/stream/store &
      worker=\$!
      tries=50
      until weir push --seconds 6 --size 640x360; do
        tries=\$((tries - 1))
        [ \$tries -gt 0 ]
        sleep 0.2
      done
      kill \$worker
      wait \$worker"' stream "${STORE[@]}" run "${ISOLATION[@]}" -v "$work/data:/stream" "$container"
  [[ $(grep -c RESOLUTION "$live/index.m3u8") == 2 ]] || die "the test picture has not become two rungs"
  for list in "$live"/*.m3u8; do
    [[ $list == */index.m3u8 ]] || grep -q EXT-X-ENDLIST "$list" || die "$list does not end"
    [[ $list == */index.m3u8 ]] || (($(grep -c EXTINF "$list") >= 3)) || die "$list lacks segments"
  done
}

main() {
  local root megabytes
  mkdir -p "$work"
  work=$(cd "$work" && pwd -P)
  trap clean_up EXIT
  base
  image "$@"
  container=$(buildah "${STORE[@]}" from localhost/weir)
  root=$(buildah "${STORE[@]}" mount "$container")
  # Before apt's lists of the last check lie in it.
  megabytes=$(du -sm --apparent-size "$root" | cut -f1)
  check_files "$root"
  check_probe
  check_stream
  check_upgrades "$root"
  ((megabytes <= MAX_MB)) || die "$megabytes MB, more than $MAX_MB"
  rm -f "$work/weir.tar"
  buildah "${STORE[@]}" push -q localhost/weir "oci-archive:$work/weir.tar:weir"
  printf 'image: %s MB unpacked, %s MB packed, in %s\n' "$megabytes" "$(du -sm "$work/weir.tar" | cut -f1)" "$work/weir.tar"
}

main "$@"
