//! Kubernetes and MetalLB objects: where they come from and how they become the model.
