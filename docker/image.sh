#!/usr/bin/env bash
# The container image without a container engine, and the checks that it must pass. As root, on Debian 12 or 13 with mmdebstrap, buildah, curl,
# iproute2 and python3.
#
#   docker/image.sh BUILT WORK [BUILDAH ARGUMENT...]
#       BUILT: the build folder, with release/ and crates.txt as `./dev build` leaves them. WORK: a folder for what is made: weir.tar, the image as an
#       OCI layout in an archive, and weir.cdx.json, the list of its parts. All checks are made on the image as it is read back from weir.tar.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

# What pulling it costs a new node, unpacked: in all, and without NVRTC. Layers are compressed further on the way.
readonly MAX_MB=450 MAX_SOFTWARE_MB=350

die() { printf 'image: %s\n' "$*" >&2; exit 1; }

# vfs needs no file system of a special kind, chroot no privileges that a CI machine's sandbox keeps back.
in_store() {
  local store=$1
  shift
  buildah --root "$work/$store" --runroot "$work/$store.run" --storage-driver vfs "$@"
}

# What the image says of itself: `config` finds it out.
user=() folder=() stop=() environment=() entry=() command=() labels=() ports=() volumes=() as_image=()

container=''
clean_up() {
  [[ -z $container ]] || in_store read rm "$container" >/dev/null
  rm -rf "$work"/{base,base.tar,context,data,config,made,made.run,read,read.run}
}

## Making it

# In place of `debian:trixie-slim`: Debian's own archive is at hand everywhere, an image registry is not. Anew each time, with today's security updates.
base() {
  local scratch
  "$here/root.sh" build "$work/base"
  tar -C "$work/base" -cf "$work/base.tar" .
  scratch=$(in_store made from scratch)
  in_store made add -q "$scratch" "$work/base.tar" / >/dev/null
  in_store made commit -q "$scratch" weir-base >/dev/null
  in_store made rm "$scratch" >/dev/null
  rm -rf "$work/base" "$work/base.tar"
}

# The programs that go into it: .dockerignore has the list, for container engines too.
programs() { sed -n 's|^!target/release/||p' "$here/../.dockerignore"; }

image() {
  local program
  mkdir -p "$work/context/docker" "$work/context/bin"
  cp "$here"/{packages.txt,plugins.txt,slim.sh,sbom.sh} "$work/context/docker/"
  cp "$here"/../LICENSE* "$built/crates.txt" "$work/context/"
  for program in $(programs); do
    cp "$built/release/$program" "$work/context/bin/"
  done
  in_store made bud -q --isolation chroot --build-arg BASE=localhost/weir-base --build-arg BINARIES=bin --build-arg CRATES=crates.txt "$@" \
    -f "$here/Dockerfile" -t weir "$work/context" >/dev/null
}

# Written and read back, which compares the hash of each part. What was built is not looked at any more.
through_the_archive() {
  rm -f "$work/weir.tar"
  in_store made push -q --format oci localhost/weir "oci-archive:$work/weir.tar:weir"
  rm -rf "$work/made" "$work/made.run"
  container=$(in_store read from "oci-archive:$work/weir.tar")
  root=$(in_store read mount "$container")
}

## What it says of itself

# Its configuration, as arrays of this shell.
config() {
  in_store read inspect --type container "$container" | python3 -c '
import json, shlex, sys
config = json.load(sys.stdin)["OCIv1"]["config"]
labels = [f"{name}={value}" for name, value in config["Labels"].items()]
for name, words in ("user", [config["User"]]), ("folder", [config["WorkingDir"]]), ("stop", [config["StopSignal"]]), \
        ("environment", config["Env"]), ("entry", config["Entrypoint"]), ("command", config["Cmd"]), ("labels", labels), \
        ("ports", config["ExposedPorts"]), ("volumes", config["Volumes"]):
    print(f"{name}=(" + " ".join(map(shlex.quote, words)) + ")")
' >"$work/config"
}

has() {
  local what=$1 word
  shift
  for word in "$@"; do
    [[ $word != "$what" ]] || return 0
  done
  die "the image's configuration lacks $what: $*"
}

check_config() {
  local label
  # shellcheck source=/dev/null
  . "$work/config"
  # By number, or an orchestrator cannot tell that it is not root.
  [[ ${user[*]} =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || die "it runs as ${user[*]}"
  [[ ${entry[0]} == /usr/bin/tini && ${stop[*]} == SIGTERM ]] || die "it begins with ${entry[*]}, and ends by ${stop[*]}"
  has NVIDIA_DRIVER_CAPABILITIES=compute,utility,video "${environment[@]}"
  has GST_CUDA_NVRTC_LIBNAME=libnvrtc.so.12 "${environment[@]}"
  has 1935/tcp "${ports[@]}"
  has 8890/udp "${ports[@]}"
  has 8080/tcp "${ports[@]}"
  has /data "${volumes[@]}"
  for label in title description licenses version revision created; do
    printf '%s\n' "${labels[@]}" | grep -q "^org.opencontainers.image.$label=..*" || die "no label $label"
  done
  if printf '%s\n' "${labels[@]}" | grep '=unknown$'; then
    die "it does not say what it was made of"
  fi
}

# Every package that dpkg lists and every crate of the programs, and nothing else.
check_parts() {
  local parts=$root/usr/share/doc/weir/sbom.cdx.json
  python3 - "$parts" <(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Status} ${Package} ${Version}\n') "$built/crates.txt" <<'PYTHON'
import json, sys
parts = [(c["purl"].split("/")[0], c["name"], c["version"]) for c in json.load(open(sys.argv[1]))["components"]]
packages = [tuple(line.split()[1:]) for line in open(sys.argv[2]) if line.startswith("installed ")]
crates = [tuple(line.split("|")[0].split(" v")) for line in open(sys.argv[3])]
wanted = sorted([("pkg:deb", *p) for p in packages] + [("pkg:cargo", *c) for c in crates])
if sorted(parts) != wanted or not packages or ("pkg:cargo", "weir") not in [p[:2] for p in parts]:
    sys.exit(f"image: the list of parts is wrong: {set(parts) ^ set(wanted)}")
PYTHON
  cp "$parts" "$work/weir.cdx.json"
}

## What is in it

check_files() {
  local found
  # The driver's libraries are the host's, the double's the tests'; compilers and keys have no place on a node.
  found=$(find "$root" -xdev \( -name 'libcuda.so*' -o -name 'libnvcuvid.so*' -o -name 'libnvidia-*' -o -name '*nvdouble*' -o -name '*.h' \
    -o -path '*/bin/*gcc*' -o -path '*/bin/*g++*' -o -path '*/bin/cc' -o -path '*/bin/make' -o -path '*/bin/cargo' \
    -o -name 'keys.toml' -o -name 'id_*' -o -path '*/.aws/*' -o -path '*/tmp/image*' \) ! -name id_ID)
  [[ -z $found ]] || die "this has no place in an image: $found"
  found=$(grep -rlI -e '-----BEGIN .*PRIVATE KEY-----' "$root"/{etc,home,root,data,usr/local} 2>/dev/null) || true
  [[ -z $found ]] || die "a private key: $found"
  if grep -rqa -e nvdouble_set "$root/usr/local/bin" "$root/usr/lib"; then
    die "the driver double is in the image"
  fi
  found=$(ls "$root/usr/local/bin")
  [[ $found == "$(programs | LC_ALL=C sort)" ]] || die "its programs are $found"
}

# Sets `megabytes`: in all, and of NVRTC. Before apt's lists lie in it.
check_size() {
  megabytes=$(du -sm --apparent-size "$root" | cut -f1)
  compiler=$(find "$root/usr/lib" -name 'libnvrtc*' -type f -print0 | du -cm --apparent-size --files0-from=- | tail -n1 | cut -f1)
  ((megabytes <= MAX_MB)) || die "$megabytes MB, more than $MAX_MB"
  ((megabytes - compiler <= MAX_SOFTWARE_MB)) || die "$((megabytes - compiler)) MB without NVRTC, more than $MAX_SOFTWARE_MB"
}

check_upgrades() {
  local upgrades
  upgrades=$("$here/root.sh" enter "$root" -- sh -c 'apt-get update -q >&2; apt list --upgradable 2>/dev/null' | grep -e -security || true)
  [[ -z $upgrades ]] || die "security upgrades are pending: $upgrades"
}

## Whether it runs

# Runs one of the functions below where a cluster under its strictest rules would run the image: a root file system that cannot be written, not even /tmp;
# its own user, who gets no other rights; a network and processes of its own. Only /data can be written.
confined() {
  install -d -o 10001 -g 10001 "$work/data"
  unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc -- "${BASH_SOURCE[0]}" confined "$root" "$work" "$@"
}

enter_confined() {
  root=$1 work=$2
  shift 2
  ip link set lo up
  mount --bind "$root" "$root"
  mount --bind "$work/data" "$root/data"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount -o remount,bind,ro "$root"
  # shellcheck source=/dev/null
  . "$work/config"
  # shellcheck disable=SC2016 # the inner shell's
  as_image=(env -i "${environment[@]}" setpriv --no-new-privs --inh-caps=-all
    chroot --userspec="${user[0]}" --groups= "$root" /bin/sh -c 'cd "$0" && exec "$@"' "${folder[0]}")
  "$@"
}

# The compiler for GPUs under the name that GStreamer is told, and no element missing; those of GPUs come with the host's driver.
check_probe() {
  local said
  said=$("${as_image[@]}" weir probe)
  printf '%s\n' "$said"
  grep -q 'libnvrtc.so.12 *loaded' <<<"$said" || die "NVRTC is not found"
  if grep 'missing: apt-get' <<<"$said"; then
    die "elements are missing"
  fi
  grep -q '^encoder: software' <<<"$said" || die "no encoder"
}

# The built-in test picture for 6 s through the image's own command, to the end of its playlists.
check_stream() {
  local live=$work/data/store/live/local/demo list worker tries=150
  [[ $("${as_image[@]}" id -u) == "${user[0]%%:*}" ]] || die "it is somebody else"
  if "${as_image[@]}" touch /tmp/written 2>/dev/null; then
    die "its root file system can be written"
  fi
  # Its first process is number 1, as an engine has it.
  unshare --mount --pid --fork --kill-child --mount-proc="$root/proc" -- \
    "${as_image[@]}" "${entry[@]}" "${command[@]}" --open=anywhere --set reconnect_grace=1 &
  worker=$!
  until curl -fs -o /dev/null --max-time 2 http://127.0.0.1:8080/readyz; do
    kill -0 "$worker" 2>/dev/null || die "the worker ended"
    ((tries-- > 0)) || die "the worker is not ready"
    sleep 0.2
  done
  "${as_image[@]}" weir push --seconds 6 --size 640x360
  kill "$(<"/proc/$worker/task/$worker/children")"
  wait "$worker" || die "the worker ended badly: $?"
  [[ $(grep -c RESOLUTION "$live/index.m3u8") == 2 ]] || die "the test picture has not become two rungs"
  for list in "$live"/*.m3u8; do
    [[ $list == */index.m3u8 ]] || grep -q EXT-X-ENDLIST "$list" || die "$list does not end"
    [[ $list == */index.m3u8 ]] || (($(grep -c EXTINF "$list") >= 3)) || die "$list lacks segments"
  done
}

main() {
  local root megabytes compiler
  built=$(cd "$1" && pwd -P)
  mkdir -p "$2"
  work=$(cd "$2" && pwd -P)
  shift 2
  trap clean_up EXIT
  base
  image "$@"
  through_the_archive
  config
  check_config
  check_parts
  check_files
  check_size
  confined check_probe
  confined check_stream
  check_upgrades
  printf 'image: %s MB unpacked (%s of them NVRTC), %s MB packed, in %s\n' \
    "$megabytes" "$compiler" "$(du -sm "$work/weir.tar" | cut -f1)" "$work/weir.tar"
}

case ${1:-} in
  confined) shift; enter_confined "$@" ;;
  *) main "$@" ;;
esac
