#!/bin/sh
# Run while the image is built: what is in it, as CycloneDX 1.5 in JSON, on standard output.
#
#   sbom.sh VERSION CRATES
#       CRATES: the crates in the programs, one a line, as `./dev build` writes them: `name vVERSION|licence`
#
# Packages are those that dpkg lists here, so this runs behind docker/slim.sh. Names and versions have no character that JSON would want escaped
# (Debian Policy 5.6, crates.io's rules), licences of crates are SPDX expressions.
set -eu
version=$1 crates=$2

packages() {
  # shellcheck disable=SC2016 # dpkg's
  dpkg-query -W -f '${db:Status-Status}|${Package}|${Version}|${Architecture}|${source:Package}\n' | LC_ALL=C sort
}

{
  packages
  sed 's/^/crate|/' "$crates"
} | awk -F'|' -v version="$version" '
  # In a package URL: everything but letters, digits and .-_~ is by its number.
  function escaped(text) {
    gsub(/%/, "%25", text); gsub(/\+/, "%2B", text); gsub(/:/, "%3A", text); gsub(/@/, "%40", text)
    return text
  }
  function component(name, version, purl, rest) {
    printf "%s\n    {\"type\": \"library\", \"bom-ref\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", \"purl\": \"%s\"%s}", \
      (count++ ? "," : ""), purl, name, version, purl, rest
  }
  BEGIN {
    printf "{\n  \"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.5\", \"version\": 1,\n"
    printf "  \"metadata\": {\"component\": {\"type\": \"container\", \"name\": \"weir\", \"version\": \"%s\"}},\n  \"components\": [", version
  }
  $1 == "installed" {
    component($2, $3, "pkg:deb/debian/" escaped($2) "@" escaped($3) "?arch=" $4, \
      ", \"properties\": [{\"name\": \"debian:source\", \"value\": \"" $5 "\"}]")
  }
  $1 == "crate" {
    split($2, words, " ")
    sub(/^v/, "", words[2])
    # As older crates write it.
    gsub("/", " OR ", $3)
    licence = $3 == "" ? "" : ", \"licenses\": [{\"expression\": \"" $3 "\"}]"
    component(words[1], words[2], "pkg:cargo/" words[1] "@" escaped(words[2]), licence)
  }
  END { printf "\n  ]\n}\n" }
'
