#!/bin/sh
# Run while the image is built: removes GStreamer plugins that Weir does not use, and then the packages that nothing left needs.
#
#   slim.sh BEFORE PLUGINS KEEP...
#       BEFORE: names of the packages that were there before Weir's; PLUGINS: docker/plugins.txt; KEEP: lists of packages that stay
#
# Debian's plugin packages bring a desktop's worth of libraries (LLVM, GTK, speech synthesis: 740 MB). Whole packages go, so that what dpkg lists is
# what is there, for scanners too. What depends on them stays: apt in the image is for looking, not for installing.
set -eu
before=$1 plugins=$2
shift 2

names() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' -- "$@"; }

work=$(mktemp -d)
names "$plugins" >"$work/plugins"
names "$@" >"$work/keep"
cat -- "$before" >>"$work/keep"

cd /usr/lib/*-linux-gnu/gstreamer-1.0
sed 's/.*/libgst&.so/' "$work/plugins" | sort >"$work/wanted"
while read -r plugin; do
  [ -e "$plugin" ] || { echo "slim: no plugin $plugin" >&2; exit 1; }
done <"$work/wanted"
find . -type f -printf '%f\n' | sort | comm -23 - "$work/wanted" | xargs rm -f

# The packages that own what the plugins are linked to, all the way down.
xargs ldd <"$work/wanted" >"$work/linked"
if grep 'not found' "$work/linked" >&2; then exit 1; fi
awk '/=>/ { print $3 }' "$work/linked" | sort -u | xargs readlink -f | sort -u | xargs dpkg -S | sed 's/:.*//' >>"$work/keep"
sort -u "$work/keep" -o "$work/keep"

dpkg-query -W -f '${Package}\n' | sort -u | comm -23 - "$work/keep" >"$work/drop"
echo "slim: $(wc -l <"$work/drop") packages go" >&2
xargs dpkg --purge --force-depends --force-remove-protected <"$work/drop" >"$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }
rm -rf "$work"
