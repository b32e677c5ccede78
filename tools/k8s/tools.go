// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools pins the programs that `make k8s-check` builds: a real API server, the controllers that
// make pods, helm and kubeconform. Nothing of docfleet is written in Go.
package tools

import (
	_ "github.com/yannh/kubeconform/cmd/kubeconform"
	_ "helm.sh/helm/v3/cmd/helm"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
