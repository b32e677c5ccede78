#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the programs that tools.go names and prints their folder: build.sh [NAME...]. The folder lies
# under ~/.cache/docfleet and is named after go.mod and go.sum, so each version is built once (20 to 30
# minutes on two cores, all of them). etcd comes from Debian's package, unpacked, not installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
key=$(cat "$here/go.mod" "$here/go.sum" "$here/tools.go" | sha256sum | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/docfleet/k8s-$key
mkdir -p "$dir"
command -v go >/dev/null || { echo "build.sh: no go; install Go 1.26 or newer" >&2; exit 1; }
version=$(sed -nE 's/^\tk8s.io\/kubernetes (v[0-9.]+).*/\1/p' "$here/go.mod")
minor=${version#v1.}
v=k8s.io/component-base/version
flags="-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=${minor%%.*} -X $v.gitTreeState=clean"
helm=$(sed -nE 's/^\thelm.sh\/helm\/v3 (v[0-9.]+).*/\1/p' "$here/go.mod")
flags="$flags -X helm.sh/helm/v3/internal/version.version=$helm"

build() { # build NAME PACKAGE
    [ -x "$dir/$1" ] && return
    echo "building $1 ..." >&2
    (cd "$here" && GOFLAGS=-buildvcs=false CGO_ENABLED=0 nice -n 19 \
        go build -p 2 -trimpath -ldflags "$flags" -o "$dir/.$1.$$" "$2") >&2
    mv "$dir/.$1.$$" "$dir/$1"
}

# By itself: its own few modules are all CI has to fetch.
kubeconform() {
    local version
    [ -x "$dir/kubeconform" ] && return
    version=$(sed -nE 's/^\tgithub.com\/yannh\/kubeconform (v[0-9.]+).*/\1/p' "$here/go.mod")
    echo "building kubeconform ..." >&2
    (cd / && GOBIN=$dir/.bin.$$ GOFLAGS=-buildvcs=false CGO_ENABLED=0 \
        go install "github.com/yannh/kubeconform/cmd/kubeconform@$version") >&2
    mv "$dir/.bin.$$/kubeconform" "$dir/kubeconform"
    rmdir "$dir/.bin.$$"
}

etcd() {
    [ -x "$dir/etcd" ] && return
    local tmp
    tmp=$(mktemp -d)
    (cd "$tmp" && { apt-get download etcd-server || { apt-get update && apt-get download etcd-server; }; } &&
        dpkg-deb -x etcd-server_*.deb . && mv usr/bin/etcd "$dir/etcd") >&2
    rm -rf "$tmp"
}

for name in "${@:-all}"; do
    case $name in
    kubeconform | all) kubeconform ;;&
    kube-apiserver | all) build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver ;;&
    kube-controller-manager | all) build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager ;;&
    helm | all) build helm helm.sh/helm/v3/cmd/helm ;;&
    etcd | all) etcd ;;
    esac
done
echo "$dir"
